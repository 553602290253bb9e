"""Figure: the cumulative shift of every layer as the product of its two factors, in each network of the study."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..schema import RECIPE
from ..select import (
    example_strength,
    means,
    of_one_family,
    placements_in,
    require,
    values_in,
    where,
)
from ..stats import Interval, mean_interval, per_seed
from ..tables import Study
from . import style
from .drawing import Drawing

SHAPE = ["data", "model", "depth", "width"]  # what tells networks apart, and the recipe where that does not
QUANTITIES = {  # column -> label, look
    "shift_ratio": ("cumulative", {"fmt": "o-"}),
    "local_ratio": ("local: its own noise", {"fmt": "s:", "mfc": "white", "mew": 1.1}),
    "cascade": ("cascade: all before it, cumulative / local", {"fmt": "^--", "mfc": "white", "mew": 1.1}),
}

READING = (
    "Cumulative is the whole shift of a layer from train to test, local what its own noise alone makes of "
    "it, and cascade the rest, which the layers before pass on: cumulative = local x cascade. That the "
    "stored variance is a moving average over moving weights counts to the cascade too. A layer without "
    "noise of its own has local 1. A row a network, nothing pooled but seeds: means of the layer over these, "
    "on a logarithmic axis, where factors add up as distances from 1."
)
READING_DEEP = (
    f" With more than {style.FEW_LAYERS} layers, local is drawn for those with noise of their own, and intervals "
    f"are bands, from {style.LEAST_SEEDS} seeds on."
)


def with_cascade(layers: pd.DataFrame) -> pd.DataFrame:
    """The rows with a shift ratio, local 1 where a layer has no noise of its own, and the column cascade."""
    layers = layers[layers["shift_ratio"] > 0]
    local = layers["local_ratio"].fillna(1.0)
    return layers.assign(local_ratio=local, cascade=layers["shift_ratio"] / local)


def networks_in(layers: pd.DataFrame) -> pd.Series:
    """A name for each row's network, made of what the networks differ in, such as 'depth 3, width 64'."""
    varied = [name for name in SHAPE if layers[name].nunique() > 1] or ["depth", "width"]
    recipe = [name for name in RECIPE if name in layers and layers[name].nunique() > 1]
    if layers[[*SHAPE, *recipe]].drop_duplicates().shape[0] > layers[SHAPE].drop_duplicates().shape[0]:
        varied += recipe
    words = [
        layers[name] if name in ("data", "model") else layers[name].map(f"{name} {{:g}}".format)
        for name in varied
    ]
    return pd.Series([", ".join(row) for row in zip(*words, strict=True)], layers.index, dtype=str)


def draw(study: Study) -> Drawing:
    """Draw the figure from the finished members of all networks with batch norm."""
    noise, layers = of_one_family(where(study.layers, norm="batch"))
    strength = example_strength(layers["strength"])
    layers = with_cascade(where(layers, strength=strength))
    layers = require(
        layers[layers["placement"].isin(["before_bn", "before_weight"])], "shift ratio behind noise"
    )
    layers = layers.sort_values([*SHAPE, *(name for name in RECIPE if name in layers)])
    layers = layers.assign(network=networks_in(layers))
    # Products need means of logarithms: the geometric mean of a product is the product of geometric means.
    logarithms = layers.assign(**{name: np.log(layers[name]) for name in QUANTITIES})
    points = means(logarithms, [*QUANTITIES], ["placement", "network", "layer_index"])
    points[["mean", "low", "high"]] = np.exp(points[["mean", "low", "high"]])
    placements, networks = placements_in(points), layers["network"].unique().tolist()
    deep = points["layer_index"].nunique() > style.FEW_LAYERS
    if deep:  # up and down between noise and none, 50 times, nothing else would be seen
        points = points[(points["quantity"] != "local_ratio") | (points["mean"] != 1)]
    label = style.STRENGTH_LABEL[noise]
    with style.figure_style():
        title = f"Local shift and cascade, layer by layer, {label} {strength:g}"
        figure, axes = style.panels(
            len(networks),
            len(placements),
            title,
            study.name,
            width=6 if deep else 3.8,
            sharey="col",
            sharex="row",
        )
        for row, network in enumerate(networks):
            for column, placement in enumerate(placements):
                panel = axes[row, column]
                panel.set_title(f"{placement}, {network}")
                _draw_panel(panel, where(points, placement=placement, network=network), placement, deep)
            axes[row, 0].set_ylabel(style.RATIO_LABEL)
        for panel in axes[-1]:
            panel.set_xlabel("BN layer, 1 = shallowest")
        for panel, placement in zip(axes[0], placements, strict=True):
            _scale(panel, where(points, placement=placement)["mean"])
        entries = [
            style.key(text, color=style.DARK, **_legend_look(look, deep))
            for text, look in QUANTITIES.values()
        ]
        style.legend_below(figure, entries)
    return Drawing(figure, points, READING + READING_DEEP * deep, _finding(layers, networks, label, strength))


def _scale(panel: Axes, ratios: pd.Series) -> None:
    """A logarithmic axis for the means; intervals of a layer that is nearly dead may leave it."""
    low, high = 0.8 * ratios.min(), 1.25 * max(1.0, ratios.max())
    ticks = [step * 10**power for power in range(-8, 3) for step in ((1,) if low < 0.01 else (1, 2, 5))]
    ticks = [tick for tick in ticks if low < tick < high]
    panel.set(yscale="log", ylim=(low, high))
    style.ticks_at(panel.yaxis, ticks)


def _legend_look(look: dict, deep: bool) -> dict:
    marker, line = "" if deep else look["fmt"][0], look["fmt"][1:]
    return {"marker": marker, "ls": line} | {name: value for name, value in look.items() if name != "fmt"}


def _draw_panel(panel: Axes, here: pd.DataFrame, placement: str, deep: bool) -> None:
    if here.empty:
        style.note(panel, "not in this study")
        return
    style.layer_ticks(panel, values_in(here, "layer_index"))
    panel.axhline(1, color=style.GREY, lw=0.9)
    for quantity, (_, look) in QUANTITIES.items():
        points = where(here, quantity=quantity)
        look = {"color": style.PLACEMENT_COLOUR[placement], "ms": 4, **look}
        style.error_bars(panel, points["layer_index"], points, deep, **look)


def _finding(layers: pd.DataFrame, networks: list[str], label: str, strength: float) -> str:
    """Shift of the deepest layer and its factors, in the first network and in the last."""
    sentences = []
    for placement in placements_in(layers):
        parts = []
        for network in dict.fromkeys([networks[0], networks[-1]]):
            here = where(layers, placement=placement, network=network)
            if here.empty:
                continue
            deepest = here[here["layer_index"] == here["layer_index"].max()]
            ratio, local, cascade = (mean_interval(per_seed(deepest, name, [])) for name in QUANTITIES)
            parts.append(f"{network} {_short(ratio)} = local {_short(local)} x cascade {_short(cascade)}")
        sentences += [f"{placement}: {'; '.join(parts)}"] if parts else []
    return f"The deepest layer's shift at {label} {strength:g} (means over seeds). {'. '.join(sentences)}."


def _short(interval: Interval) -> str:
    ends = "" if interval.n < 2 else f" [{interval.low:.2f}, {interval.high:.2f}]"
    return f"{interval.mean:.2f}{ends}"
