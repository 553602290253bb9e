"""The shape of Figure 4: are our BN layers, in networks as deep as the paper's, shifted in the paper's order?

Two curves over the same BN layers are alike if they put these layers in one order: Spearman's rank correlation of
the shift magnitudes. By itself it says little, for a block holds norms that noise reaches at once beside others,
and any network with such blocks would follow that pattern. So beside it stand the correlation of ranks among the
layers of one place in their blocks (all `norm2`, say), which that pattern cannot raise, and what the paper's own
two curves of one network, on CIFAR-10 and on CIFAR-100, have in common.
"""

import numpy as np
import pandas as pd

from .. import paper
from ..select import where
from ..stats import mean_interval
from ..theory import shift_magnitude
from .measured import DISCUSSED_RATE, NAME, PAPER_PLACEMENTS, measured_layers
from .setting import PaperStudy, names_in

OTHER_DATA = {"CIFAR10": "CIFAR100", "CIFAR100": "CIFAR10"}
NUMBERS = ["like", "like_in_place", "last_block", "magnitude", "predicted", "like_predicted"]


def layer_shapes(study: PaperStudy) -> pd.DataFrame:
    """Our curves beside the paper's at drop rate 0.5, where both have as many BN layers.

    A row per dataset, network and placement with `bn_layers`, and with numbers of ours, Intervals over seeds:

        like            rank correlation with the paper's curve
        like_in_place   the same of ranks among layers of one place in their blocks
        last_block      mean magnitude of the layers from the last block on, less that of the others
        magnitude       mean magnitude of all layers
        predicted       the same by the closure, of nothing where the study has no predictions
        like_predicted  rank correlation with the closure

    The first four have a column `published_...`: what the paper's own curve has, the first two with its curve on
    the other data set.
    """
    figure = where(paper.published_layers(paper.figure4()), strength=DISCUSSED_RATE)
    measured = where(measured_layers(study), strength=DISCUSSED_RATE)
    rows = []
    for dataset, network in names_in(measured):
        for placement in PAPER_PLACEMENTS:
            layers = where(measured, dataset=dataset, network=network, placement=placement)
            theirs, others = (
                where(figure, dataset=data, network=network, placement=placement)
                .set_index("bn_layer_index")["shift_magnitude"]
                .sort_index()
                for data in (dataset, OTHER_DATA.get(dataset, dataset))
            )
            if layers.empty or layers["layer_index"].max() != len(theirs):
                continue
            names = layers.drop_duplicates("layer_index").set_index("layer_index")["layer_name"].sort_index()
            block, place = (names.str.rpartition(".")[part].to_numpy() for part in (0, 2))
            last = _from_last_block(block)
            found = [_numbers(one, theirs.to_numpy(), place, last) for _, one in layers.groupby("seed")]
            row = {"dataset": dataset, "network": network, "placement": placement, "bn_layers": len(theirs)}
            row |= {number: mean_interval(pd.DataFrame(found)[number]) for number in NUMBERS}
            curve = theirs.to_numpy()
            row |= {
                "published_like": likeness(curve, others.to_numpy()),
                "published_like_in_place": likeness(curve, others.to_numpy(), place),
                "published_last_block": curve[last].mean() - curve[~last].mean(),
                "published_magnitude": curve.mean(),
            }
            rows.append(row)
    published = [f"published_{number}" for number in NUMBERS[:4]]
    return pd.DataFrame(rows, columns=pd.Index([*NAME, "placement", "bn_layers", *NUMBERS, *published]))


def likeness(first: np.ndarray, second: np.ndarray, group: np.ndarray | None = None) -> float:
    """Spearman's rank correlation of two curves; with `group`, of ranks within each group about the group's mean.

    NaN where a curve has no order.
    """
    groups = np.zeros(len(first)) if group is None else group
    ranks = pd.DataFrame({"first": first, "second": second}).groupby(groups).rank(pct=True)
    first, second = (ranks - ranks.groupby(groups).transform("mean")).to_numpy().T
    size = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / size) if size > 0 else np.nan


def _numbers(
    layers: pd.DataFrame, theirs: np.ndarray, place: np.ndarray, last: np.ndarray
) -> dict[str, float]:
    """The numbers of one seed."""
    layers = layers.sort_values("layer_index")
    curve = layers["shift_magnitude"].to_numpy(dtype=float)
    numbers = {
        "like": likeness(curve, theirs),
        "like_in_place": likeness(curve, theirs, place),
        "last_block": curve[last].mean() - curve[~last].mean(),
        "magnitude": curve.mean(),
    }
    ratios = layers.get("shift_ratio_predicted")
    if ratios is None or ratios.isna().any():
        return numbers | {"predicted": np.nan, "like_predicted": np.nan}
    predicted = shift_magnitude(ratios.to_numpy(dtype=float))
    return numbers | {"predicted": predicted.mean(), "like_predicted": likeness(curve, predicted)}


def _from_last_block(block: np.ndarray) -> np.ndarray:
    """Which layers stand from the last block on; layers outside all blocks have an empty name of it."""
    last = [name for name in block if name][-1]
    return np.arange(len(block)) >= list(block).index(last)


def in_words(shapes: pd.DataFrame) -> str:
    """What the rows of `layer_shapes` show, in sentences."""
    said = [
        f"{row.network} {row.placement}: {row.like.mean:.2f} with the paper's {row.bn_layers} BN layers "
        f"({row.published_like:.2f} between the paper's own two), in place {row.like_in_place.mean:.2f} "
        f"({row.published_like_in_place:.2f})"
        for row in shapes.itertuples(index=False)
    ]
    return (
        f"Rank correlation of the layers' shift at drop rate {DISCUSSED_RATE:g}. {'; '.join(said)}."
        if said
        else ""
    )
