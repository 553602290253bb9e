"""The paper's Figures 1 and 4: shift of every BN layer, the digitised curves under ours."""

from collections.abc import Collection

import pandas as pd
from matplotlib.axes import Axes

from .. import paper
from ..beside.measured import CELL, measured_layers
from ..beside.setting import PaperStudy, names_in
from ..select import example_strength, placements_in, require, where
from ..stats import mean_interval, over_seeds, per_seed
from . import style
from .drawing import Drawing

READING = (
    "Bold: our networks, the mean over seeds with its 95 % interval. Thin: the paper's published curves "
    "of the same "
    "networks, read from its vector graphics, one model each; triangles left the paper's plot at the top "
    "and are "
    "lower bounds. Both against relative depth: 0 is the first BN layer, 1 the last. A magnitude of 1 is "
    "no shift. Setting: {}."
)
READING_DEEP = f" Of a network as deep as this the interval is a band, from {style.LEAST_SEEDS} seeds on."


def draw_figure4(study: PaperStudy) -> Drawing:
    """Draw Figure 4: a row for each data set and placement, a column for each network."""
    figure = paper.published_layers(paper.figure4())
    return _draw(study, figure, "Shift of each BN layer beside the paper's Figure 4")


def draw_figure1(study: PaperStudy) -> Drawing:
    """Draw Figure 1: DenseNet without dropout and with rate 0.5 before BN; the paper's is on CIFAR-100 only."""
    figure = paper.published_layers(paper.figure1()).assign(placement="before_bn")
    ours = [name for name in study.setting if name[1] in set(figure["network"])]
    require(pd.DataFrame(ours), "DenseNet, the network of the paper's Figure 1")
    study = study.part(ours[-1])  # CIFAR-100, if there are both
    figure = figure.assign(dataset=ours[-1][0])
    layers = study.layers
    chosen = layers["placement"].isin(["none", "before_bn"]) & layers["strength"].isin([0, 0.5])
    part = PaperStudy(study.members, layers[chosen], study.epochs, study.flips, study.setting)
    return _draw(part, figure, "Shift of each BN layer beside the paper's Figure 1 (CIFAR-100)")


def _draw(study: PaperStudy, published: pd.DataFrame, title: str) -> Drawing:
    layers = measured_layers(study)
    require(
        layers[layers["noise"] != "none"], "dropout before BN, or before a weight layer, in these networks"
    )
    points = over_seeds(layers, "shift_magnitude", [*CELL, "depth"])
    rows = points[["dataset", "placement"]].drop_duplicates().itertuples(index=False)
    networks = list(dict.fromkeys(network for _, network in names_in(points)))
    colours = style.strength_colours(points["strength"])
    published = published[published["strength"].isin(list(colours))]
    rows = sorted(rows)
    shown = points[["dataset", "network"]].drop_duplicates()
    is_deep = bool(points.groupby(CELL).size().max() > style.FEW_LAYERS)
    width = 6.5 if is_deep else 2.5
    with style.figure_style():
        figure, axes = style.panels(
            len(rows), len(networks), title, study.scale, width=width, sharex=True, sharey="row"
        )
        for row, (dataset, placement) in enumerate(rows):
            for column, network in enumerate(networks):
                panel = axes[row, column]
                panel.set_title(f"{network}\n{dataset}, {placement}")
                chosen = {"dataset": dataset, "network": network, "placement": placement}
                _draw_panel(panel, where(points, **chosen), where(published, **chosen), colours)
            here = where(points, dataset=dataset, placement=placement)
            _scale(
                axes[row, 0],
                pd.concat([here["mean"], where(published, placement=placement)["shift_magnitude"]]),
            )
            axes[row, 0].set_ylabel("shift magnitude\nmax(r, 1/r)")
        for panel in axes[-1]:
            panel.set(xlabel="relative depth of BN layer", xticks=[0, 0.5, 1])
        style.legend_below(
            figure,
            _legend(colours, bool(published.merge(shown)["clipped"].any()), "" if is_deep else "o"),
            columns=5,
        )
    panels = pd.DataFrame([(*row, network) for row in rows for network in networks])
    beside = published.merge(panels.set_axis(["dataset", "placement", "network"], axis=1))
    beside = beside.rename(columns={"shift_magnitude": "mean"})[[*CELL, "depth", "mean", "clipped"]]
    drawn = [points.assign(quantity="shift_magnitude"), beside.assign(quantity="published")]
    return Drawing(
        figure,
        pd.concat(drawn, ignore_index=True),
        READING.format(study.scale) + READING_DEEP * is_deep,
        _finding(layers, published.merge(shown)),
    )


def _draw_panel(panel: Axes, ours: pd.DataFrame, theirs: pd.DataFrame, colours: dict) -> None:
    if ours.empty:
        style.note(panel, "not in this study")
    is_deep = bool(ours.groupby("strength").size().max() > style.FEW_LAYERS)
    for strength, colour in colours.items():
        curve = where(theirs, strength=strength).sort_values("depth")
        # Of a deep network the paper's lies on top, or what is alike would hide it.
        look = (
            {"color": style.DARK, "alpha": 0.9, "zorder": 6} if is_deep else {"color": colour, "alpha": 0.55}
        )
        panel.plot(curve["depth"], curve["shift_magnitude"], lw=0.8, **look)
        clipped = curve[curve["clipped"]]
        panel.plot(clipped["depth"], clipped["shift_magnitude"], "^", color=colour, ms=3.5, mew=0, alpha=0.8)
        here = where(ours, strength=strength).sort_values("depth")
        look = {"color": colour, "ms": 4.5, "lw": 2, "mec": "white", "mew": 0.5, "zorder": 5}
        style.error_bars(panel, here["depth"], here, is_deep, fmt="o-", **look)


def _scale(panel: Axes, magnitudes: pd.Series) -> None:
    """A logarithmic axis that holds all means; intervals may leave it."""
    top = 1.1 * magnitudes.max()
    ticks = [1, 1.02, 1.05, 1.1, 1.2] if top < 1.25 else [1, 1.2, 1.5, 2, 3, 5, 10]
    ticks = ticks if top < 15 else [10**power for power in range(12)]
    panel.set_yscale("log")
    panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.set_yticks([], minor=True)
    panel.set_ylim(1 - 0.05 * (top - 1) / 1.5, top)


def _legend(colours: dict, clipped: bool, marker: str) -> list:
    entries = [
        *(style.key(f"drop rate {strength:g}", color=colour, lw=3) for strength, colour in colours.items()),
        style.key("ours", color=style.DARK, marker=marker, lw=2),
        style.key("the paper's", color=style.DARK, lw=0.8),
    ]
    lower_bound = style.key("the paper's, at least this", color=style.DARK, marker="^", ls="", ms=4)
    return [*entries, lower_bound] if clipped else entries


def _finding(layers: pd.DataFrame, published: pd.DataFrame) -> str:
    strength = example_strength(layers["strength"])
    parts = []
    for placement in placements_in(layers):
        at = where(layers, placement=placement, strength=strength)
        ours = [
            mean_interval(per_seed(rows, "shift_magnitude", [])).mean
            for _, rows in at.groupby(["dataset", "network"])
        ]
        theirs = where(published, placement=placement, strength=strength)
        said = f"{placement} {_span(ours)}"
        if len(theirs):
            means = theirs.groupby(["dataset", "network"])["shift_magnitude"].mean()
            said += f" (the paper's: {_span(means)})"
        parts.append(said)
    said = f"Mean magnitude over a network's BN layers at drop rate {strength:g}, smallest to largest network"
    return f"{said}: {'; '.join(parts)}."


def _span(values: Collection[float]) -> str:
    low, high = (f"{end:.2f}" for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
