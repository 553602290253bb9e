"""The shape of Figure 4: are our BN layers, in networks as deep as the paper's, shifted in the paper's order?

Two curves over the same BN layers are alike if they put these layers in one order: Spearman's rank correlation of
the shift magnitudes. By itself it says little, for a block holds norms that noise reaches at once beside others,
and any network with such blocks would follow that pattern. So beside it stand the correlation of ranks among the
layers of one place in their blocks (all `norm2`, say), which that pattern cannot raise, and what the paper's own
two curves of one network, on CIFAR-10 and on CIFAR-100, have in common.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .. import paper
from ..select import where
from ..stats import Interval, mean_interval
from ..theory import shift_magnitude
from .measured import DISCUSSED_RATE, PAPER_PLACEMENTS, measured_layers
from .setting import PaperStudy, names_in

OTHER_DATA = {"CIFAR10": "CIFAR100", "CIFAR100": "CIFAR10"}


@dataclass(frozen=True)
class Shape:
    """A curve over BN layers in numbers, of one placement in one network.

    Attributes:
        like: rank correlation with the paper's curve; of the paper's own, with that on its other data set.
        in_place: the same of ranks among layers of one place in their blocks.
        last_block: mean magnitude of the layers from the last block on, less that of the others.
        magnitude: mean magnitude of all layers.
        local: the same by the exact law of each layer's own noise, 1 where a layer has none; not of the paper's.
        like_local: rank correlation with that law; not of the paper's.
    """

    like: float
    in_place: float
    last_block: float
    magnitude: float
    local: float = np.nan
    like_local: float = np.nan


@dataclass(frozen=True)
class BesideShape:
    """Our curves, one a seed, beside the paper's.

    Attributes:
        name: dataset and network.
        placement: of the noise.
        bn_layers: how many both have.
        seeds: a `Shape` of each seed of ours.
        published: that of the paper.
    """

    name: tuple[str, str]
    placement: str
    bn_layers: int
    seeds: list[Shape]
    published: Shape

    def ours(self, number: str) -> Interval:
        """The mean over seeds of a number of `Shape`, and its interval."""
        return mean_interval(np.array([getattr(shape, number) for shape in self.seeds]))


def layer_shapes(study: PaperStudy) -> list[BesideShape]:
    """Our curves of drop rate 0.5 beside the paper's Figure 4, where both have as many BN layers."""
    figure = where(paper.published_layers(paper.figure4()), strength=DISCUSSED_RATE)
    measured = where(measured_layers(study), strength=DISCUSSED_RATE)
    found = []
    for dataset, network in names_in(measured):
        for placement in PAPER_PLACEMENTS:
            layers = where(measured, dataset=dataset, network=network, placement=placement)
            theirs, others = (
                where(figure, dataset=data, network=network, placement=placement)
                .sort_values("bn_layer_index")["shift_magnitude"]
                .to_numpy()
                for data in (dataset, OTHER_DATA.get(dataset, dataset))
            )
            if layers.empty or layers["layer_index"].max() != len(theirs):
                continue
            curves = [one.sort_values("layer_index") for _, one in layers.groupby("seed")]
            names = curves[0]["layer_name"].str.rpartition(".")
            block, place = names[0].to_numpy(), names[2].to_numpy()
            seeds = [_shape(one["shift_magnitude"].to_numpy(), theirs, block, place, one) for one in curves]
            published = _shape(theirs, others, block, place)
            found.append(BesideShape((dataset, network), placement, len(theirs), seeds, published))
    return found


def likeness(first: np.ndarray, second: np.ndarray, group: np.ndarray | None = None) -> float:
    """Spearman's rank correlation of two curves; with `group`, of ranks within each group about the group's mean.

    NaN where a curve has no order.
    """
    groups = np.zeros(len(first)) if group is None else group
    ranks = pd.DataFrame({"first": first, "second": second}).groupby(groups).rank(pct=True)
    first, second = (ranks - ranks.groupby(groups).transform("mean")).to_numpy().T
    size = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / size) if size > 0 else np.nan


def _shape(
    curve: np.ndarray,
    theirs: np.ndarray,
    block: np.ndarray,
    place: np.ndarray,
    layers: pd.DataFrame | None = None,
) -> Shape:
    """The numbers of a curve beside another, and beside the law of our `layers`, where they are given.

    `block` and `place` are each layer's names of them; a layer outside all blocks has an empty one.
    """
    curve = curve.astype(float)
    last = np.arange(len(curve)) >= list(block).index([name for name in block if name][-1])
    shape = {
        "like": likeness(curve, theirs),
        "in_place": likeness(curve, theirs, place),
        "last_block": curve[last].mean() - curve[~last].mean(),
        "magnitude": curve.mean(),
    }
    if layers is not None:
        local = shift_magnitude(layers["local_ratio_exact"].fillna(1).to_numpy(dtype=float))
        shape |= {"local": local.mean(), "like_local": likeness(curve, local)}
    return Shape(**shape)


def in_words(shapes: list[BesideShape]) -> str:
    """What `layer_shapes` shows, in a sentence; empty of nothing."""
    said = [
        f"{shape.name[1]} {shape.placement} {shape.ours('like').mean:.2f} over {shape.bn_layers} BN layers (the "
        f"paper's own two curves: {shape.published.like:.2f}), within a place in the block "
        f"{shape.ours('in_place').mean:.2f} ({shape.published.in_place:.2f})"
        for shape in shapes
    ]
    return (
        f"Rank correlation with the paper's curve at drop rate {DISCUSSED_RATE:g}: {'; '.join(said)}."
        if said
        else ""
    )
