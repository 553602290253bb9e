"""Figure 3: shift of every BN layer from shallow to deep, beside the layers of the paper's Figure 4."""

import pandas as pd
from matplotlib.axes import Axes

from analysis import paper
from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.select import (
    example_strength,
    means,
    of_one_family,
    placements_in,
    require,
    values_in,
    where,
)
from analysis.stats import mean_interval, per_seed
from analysis.tables import Study
from analysis.theory import shift_magnitude

QUANTITIES = ["shift_ratio", "local_ratio", "local_ratio_exact"]

READING = (
    "Each line is one strength, each point the mean over seeds with its 95 % interval; 1 means no shift. "
    "Filled: cumulative, from train to test mode. Open: local, only this layer's own noise switched off; "
    "the cross inside it is the exact law. What lies between filled and open is the cascade from the "
    "layers before."
)
READING_PAPER = (
    " Right: the paper's Figure 4 at the same drop rates (cumulative). A dot is one BN layer of one of "
    "its 8 networks (4 architectures, CIFAR-10 and CIFAR-100, 25 to 163 BN layers) at its relative depth,"
    " a line the mean over each tenth of the depth. Triangles left the paper's plot at the top and are "
    "lower bounds."
)


def points_of(layers: pd.DataFrame) -> pd.DataFrame:
    """Mean shift magnitude of every BN layer, with the interval over seeds; `quantity` names the ratio."""
    magnitudes = layers.assign(**{quantity: shift_magnitude(layers[quantity]) for quantity in QUANTITIES})
    return means(magnitudes, QUANTITIES, ["placement", "width", "strength", "layer_index"])


def draw(study: Study) -> Drawing:
    """Draw the figure from one network's finished members."""
    noise, layers = of_one_family(study.layers)
    points = require(points_of(layers), "BN layer with a measured shift")
    placements, widths = placements_in(points), values_in(points, "width")
    colours = style.strength_colours(points["strength"])
    published = paper.published_layers(paper.figure4())
    published = published[published["strength"].isin(list(colours) if noise == "dropout" else [])]
    beside = not published.empty
    label = style.STRENGTH_LABEL[noise]
    with style.figure_style():
        title = "Shift of each BN layer, from shallow to deep"
        figure, axes = style.panels(
            len(placements), len(widths) + beside, title, study.name, width=2.5, sharey=True
        )
        for row, placement in enumerate(placements):
            for column, width in enumerate(widths):
                axes[row, column].set_title(f"{placement}, width {width}")
                _draw_measured(axes[row, column], where(points, placement=placement, width=width), colours)
            if beside:
                axes[row, -1].set_title(f"{placement}, the paper")
                _draw_published(axes[row, -1], where(published, placement=placement), colours)
            axes[row, 0].set_ylabel("shift magnitude\nmax(r, 1/r)")
        for panel in axes[-1, : len(widths)]:
            panel.set_xlabel("BN layer, 1 = shallowest")
        _scale(axes[0, 0], points)
        style.legend_below(figure, _legend(colours, label, beside), columns=4)
    return Drawing(figure, points, READING + READING_PAPER * beside, _finding(layers, published, label))


def _scale(axes: Axes, points: pd.DataFrame) -> None:
    """A logarithmic axis with room for the intervals, but not for one that would dwarf all means."""
    highest = points["mean"].max()
    top = 1.1 * min(max(highest, points["high"].fillna(0).max()), 1.5 * highest)
    ticks = [1, 1.2, 1.5, 2, 3, 5, 10] if top < 12 else [10**power for power in range(12)]
    axes.set_yscale("log")
    style.ticks_at(axes.yaxis, ticks)
    axes.set_ylim(0.95, top)


def _draw_measured(panel: Axes, here: pd.DataFrame, colours: dict) -> None:
    if here.empty:
        style.note(panel, "not in this study")
        return
    style.layer_ticks(panel, values_in(here, "layer_index"))
    for strength in values_in(here, "strength"):
        colour = colours[strength]
        cumulative, local, exact = (where(here, strength=strength, quantity=name) for name in QUANTITIES)
        style.error_bars(panel, cumulative["layer_index"], cumulative, fmt="o-", color=colour)
        look = {"fmt": "o:", "color": colour, "mfc": "white", "ms": 7, "mew": 1.1, "lw": 1.1}
        style.error_bars(panel, local["layer_index"], local, **look)
        panel.plot(exact["layer_index"], exact["mean"], "x", color=colour, ms=4, zorder=5)


def _draw_published(panel: Axes, here: pd.DataFrame, colours: dict) -> None:
    if here.empty:
        style.note(panel, "the paper shows no\nBN layers for this")
        panel.set_axis_off()
        return
    panel.set(xticks=[0, 0.5, 1], xlabel="relative depth of BN layer")
    for strength in values_in(here, "strength"):
        of_strength = where(here, strength=strength)
        look = {"color": colours[strength], "mew": 0, "ls": "", "rasterized": True}  # thousands of dots
        inside, outside = of_strength[~of_strength["clipped"]], of_strength[of_strength["clipped"]]
        panel.plot(inside["depth"], inside["shift_magnitude"], marker="o", ms=1.6, alpha=0.35, **look)
        panel.plot(outside["depth"], outside["shift_magnitude"], marker="^", ms=3.5, **look)
        tenth = (of_strength["depth"] * 10).astype(int).clip(upper=9)
        mean = of_strength["shift_magnitude"].groupby(tenth).mean()
        panel.plot((mean.index.to_numpy() + 0.5) / 10, mean.to_numpy(), lw=2.2, color=colours[strength])


def _legend(colours: dict, label: str, beside: bool) -> list:
    entries = [
        *(style.key(f"{label} {strength:g}", color=colour, lw=3) for strength, colour in colours.items()),
        style.key("cumulative", color=style.DARK, marker="o"),
        style.key("local", color=style.DARK, marker="o", mfc="white", ls=":", ms=7, mew=1.1),
        style.key("local, exact law", color=style.DARK, marker="x", ls="", ms=4),
    ]
    return entries + [style.key("paper: at least this", color=style.DARK, marker="^", ls="", ms=4)] * beside


def _finding(layers: pd.DataFrame, published: pd.DataFrame, label: str) -> str:
    strength = example_strength(layers["strength"])
    at = where(layers, strength=strength)
    at = at.assign(magnitude=shift_magnitude(at["shift_ratio"]))
    parts = []
    for placement in placements_in(at):
        ours = mean_interval(per_seed(where(at, placement=placement), "magnitude", []))
        if not ours.n:
            continue
        part = f"{placement} {ours}"
        theirs = where(published, placement=placement, strength=strength)
        if not theirs.empty:
            networks = theirs.groupby(["dataset", "network"])["shift_magnitude"].mean()
            part += f" (the paper's networks: {networks.min():.2f} to {networks.max():.2f})"
        parts.append(part)
    if not parts:
        return "Local shift alone: these networks store no variance to compare the cumulative one with."
    return (
        f"Mean magnitude of the cumulative shift over all BN layers at {label} {strength:g}: "
        f"{'; '.join(parts)}."
    )
