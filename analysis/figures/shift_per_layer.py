"""Figure 3: shift of every BN layer, shallow to deep: of variances beside the paper's Figure 4, and of means."""

from collections.abc import Collection

import pandas as pd
from matplotlib.axes import Axes

from .. import paper
from ..select import (
    example_strength,
    means,
    of_one_family,
    placements_in,
    require,
    values_in,
    where,
)
from ..stats import mean_interval, per_seed
from ..tables import Study
from ..theory import shift_magnitude
from . import style
from .drawing import Drawing

PUBLISHED = ["dataset", "network", "placement", "strength", "depth", "shift_magnitude", "clipped"]
QUANTITIES = ["shift_ratio", "local_ratio", "local_ratio_exact"]
# Studies of older versions lack these.
PREDICTED = "shift_ratio_predicted"
MEAN_SHIFTS = ["mean_shift", "mean_shift_frozen"]

READING = (
    "Each line is one strength, each point the mean over seeds with its 95 % interval; 1 means no shift. "
    "Filled: cumulative, from train to test mode. Open: local, only this layer's own noise switched off; the "
    "cross inside it is the exact law. What lies between filled and open is the cascade from the layers "
    "before."
)
READING_DEEP = (
    f" With more than {style.FEW_LAYERS} layers marks would hide each other: the full line is the cumulative "
    "shift, the dotted one the local one, and crosses are the exact law; bands are the intervals, from "
    f"{style.LEAST_SEEDS} seeds on."
)
READING_PREDICTED = (
    " Dashed: the cumulative shift that the closure predicts from weights and training data, for a large batch "
    "and weights at rest."
)
READING_MEANS = (
    " Below each: the mean shift, (mean at test - stored mean) / stored standard deviation, rms over "
    "channels. Noise itself moves no mean, but a rescaled input of a ReLU does, from the second BN layer on. "
    "Filled: as stored, that is with moving averages over moving weights; open: behind statistics estimated "
    "again with noise on, weights frozen; grey: as stored without noise."
)
READING_PAPER = (
    " Right: the paper's Figure 4 at the same drop rates (cumulative). A dot is one BN layer of one of its 8 "
    "networks (4 architectures, CIFAR-10 and CIFAR-100, 25 to 163 BN layers) at its relative depth, a line "
    "the mean over each tenth of the depth. Triangles left the paper's plot at the top and are lower bounds."
)


def points_of(layers: pd.DataFrame) -> pd.DataFrame:
    """Means of every BN layer with the interval over seeds: magnitudes of the shift ratios, and mean shifts."""
    ratios = [*QUANTITIES, *(name for name in (PREDICTED,) if name in layers)]
    magnitudes = layers.assign(**{name: shift_magnitude(layers[name]) for name in ratios})
    quantities = [*ratios, *(name for name in MEAN_SHIFTS if name in layers)]
    return means(magnitudes, quantities, ["placement", "width", "strength", "layer_index"])


def draw(study: Study) -> Drawing:
    """Draw the figure from one network's finished members."""
    noise, layers = of_one_family(study.layers)
    points = require(points_of(layers), "BN layer with a measured shift")
    without_noise = where(points_of(where(study.layers, noise="none")), quantity="mean_shift")
    placements, widths = placements_in(points), values_in(points, "width")
    colours = style.strength_colours(points["strength"])
    published = paper.published_layers(paper.figure4())
    published = published[published["strength"].isin(list(colours) if noise == "dropout" else [])]
    published = published[PUBLISHED].assign(quantity="published")
    beside = not published.empty
    quantities = set(points["quantity"])
    has_means, has_predicted = not quantities.isdisjoint(MEAN_SHIFTS), PREDICTED in quantities
    rows = 1 + has_means  # of a placement
    deep = points["layer_index"].nunique() > style.FEW_LAYERS
    has_end = (points["n"] >= style.LEAST_SEEDS) | (not deep)
    room = points.assign(high=points["high"].where(has_end))  # for the intervals that are drawn
    label = style.STRENGTH_LABEL[noise]
    with style.figure_style():
        shape = {"width": 5.5 if deep else 2.5, "height": 2 if has_means else 2.3, "sharey": "row"}
        shape |= {"height_ratios": [3, 2][:rows] * len(placements)}
        figure, axes = style.panels(
            rows * len(placements),
            len(widths) + beside,
            "Shift of each BN layer, from shallow to deep",
            study.name,
            **shape,
        )
        for placement, (above, *below) in zip(placements, axes.reshape(-1, rows, axes.shape[1]), strict=True):
            here = where(points, placement=placement)
            for column, width in enumerate(widths):
                above[column].set_title(f"{placement}, width {width}")
                _draw_measured(above[column], where(here, width=width), colours, deep)
                for panels in below:
                    panels[column].set_title(f"{placement}, width {width}: means")
                    clean = where(without_noise, width=width)
                    _draw_means(panels[column], where(here, width=width), clean, colours, deep)
            if beside:
                above[-1].set_title(f"{placement}, the paper")
                _draw_published(above[-1], where(published, placement=placement), colours)
            _scale(above[0], room)
            above[0].set_ylabel("shift magnitude\nmax(r, 1/r)")
            for panels in below:
                panels[0].set(ylabel="mean shift\n(stored std)", ylim=(0, _highest_mean_shift(room)))
                if beside:
                    panels[-1].set_axis_off()
        for panel in axes[-1, : len(widths)]:
            panel.set_xlabel("BN layer, 1 = shallowest")
        entries = _legend(colours, label, quantities, beside, not without_noise.empty, deep)
        style.legend_below(figure, entries, columns=4)
    reading = READING + READING_DEEP * deep + READING_PREDICTED * has_predicted
    reading += READING_MEANS * has_means + READING_PAPER * beside
    drawn = [points, *[without_noise] * has_means]
    if beside:
        shown = published[published["placement"].isin(placements)]
        drawn += [part.rename(columns={"shift_magnitude": "mean"}) for part in (shown, tenths(shown))]
    return Drawing(figure, pd.concat(drawn), reading, _finding(study.layers, noise, published))


def tenths(published: pd.DataFrame) -> pd.DataFrame:
    """The mean of the published layers over each tenth of the depth, at its middle."""
    tenth = ((published["depth"] * 10).astype(int).clip(upper=9) + 0.5) / 10
    means = published.groupby(["placement", "strength", tenth])["shift_magnitude"].mean().reset_index()
    return means.assign(quantity="published, mean of a tenth")


def _scale(axes: Axes, points: pd.DataFrame) -> None:
    """A logarithmic axis with room for the intervals, but not for one that would dwarf all means."""
    highest = points["mean"].max()
    top = 1.1 * min(max(highest, points["high"].fillna(0).max()), 1.5 * highest)
    ticks = [1, 1.2, 1.5, 2, 3, 5, 10] if top < 12 else [10**power for power in range(12)]
    axes.set_yscale("log")
    style.ticks_at(axes.yaxis, ticks)
    axes.set_ylim(0.95, top)


def _draw_measured(panel: Axes, here: pd.DataFrame, colours: dict, deep: bool) -> None:
    if here.empty:
        style.note(panel, "not in this study")
        return
    style.layer_ticks(panel, values_in(here, "layer_index"))
    for strength in values_in(here, "strength"):
        colour = colours[strength]
        cumulative, local, exact = (where(here, strength=strength, quantity=name) for name in QUANTITIES)
        style.error_bars(panel, cumulative["layer_index"], cumulative, deep, fmt="o-", color=colour)
        look = {"fmt": "o:", "color": colour, "mfc": "white", "ms": 7, "mew": 1.1, "lw": 1.1}
        style.error_bars(panel, local["layer_index"], local, deep, **look)
        panel.plot(exact["layer_index"], exact["mean"], "x", color=colour, ms=2.5 if deep else 4, zorder=5)
        predicted = where(here, strength=strength, quantity=PREDICTED)
        panel.plot(
            predicted["layer_index"], predicted["mean"], "+--", color=style.DARK, lw=0.9, ms=5, zorder=6
        )


def _highest_mean_shift(points: pd.DataFrame) -> float:
    """The top of an axis of mean shifts, with room for the intervals, unless one would dwarf all means."""
    here = points[points["quantity"].isin(MEAN_SHIFTS)]
    highest = here["mean"].max()
    return 1.1 * min(max(highest, here["high"].fillna(0).max()), 1.5 * highest) or 1.0


def _draw_means(
    panel: Axes, here: pd.DataFrame, without_noise: pd.DataFrame, colours: dict, deep: bool
) -> None:
    if here.empty:
        style.note(panel, "not in this study")
        return
    style.layer_ticks(panel, values_in(here, "layer_index"))
    clean = {"fmt": "o-", "color": style.GREY, "ms": 4}
    style.error_bars(panel, without_noise["layer_index"], without_noise, deep, **clean)
    for strength in values_in(here, "strength"):
        stored, frozen = (where(here, strength=strength, quantity=name) for name in MEAN_SHIFTS)
        style.error_bars(panel, stored["layer_index"], stored, deep, fmt="o-", color=colours[strength], ms=4)
        look = {"fmt": "o:", "color": colours[strength], "mfc": "white", "ms": 6, "mew": 1.1, "lw": 1.1}
        style.error_bars(panel, frozen["layer_index"], frozen, deep, **look)


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
        mean = tenths(of_strength)
        panel.plot(mean["depth"], mean["shift_magnitude"], lw=2.2, color=colours[strength])


def _legend(
    colours: dict, label: str, quantities: Collection[str], beside: bool, without_noise: bool, deep: bool
) -> list:
    dot = "" if deep else "o"
    entries = [
        *(style.key(f"{label} {strength:g}", color=colour, lw=3) for strength, colour in colours.items()),
        style.key("cumulative", color=style.DARK, marker=dot),
        style.key("local", color=style.DARK, marker=dot, mfc="white", ls=":", ms=7, mew=1.1),
        style.key("local, exact law", color=style.DARK, marker="x", ls="", ms=4),
    ]
    if PREDICTED in quantities:
        entries.append(style.key("cumulative, predicted", color=style.DARK, marker="+", ls="--", ms=5))
    if beside:
        entries.append(style.key("paper: at least this", color=style.DARK, marker="^", ls="", ms=4))
    stored, frozen = (name in quantities for name in MEAN_SHIFTS)
    if stored:
        entries.append(style.key("means: stored", color=style.DARK, marker=dot, ms=4))
    if frozen:
        look = {"marker": dot, "mfc": "white", "ls": ":", "ms": 6, "mew": 1.1}
        entries.append(style.key("means: frozen", color=style.DARK, **look))
    if stored and without_noise:
        entries.append(style.key("means: no noise", color=style.GREY, marker=dot, ms=4))
    return entries


def _finding(layers: pd.DataFrame, noise: str, published: pd.DataFrame) -> str:
    of_noise = where(layers, noise=noise)
    strength = example_strength(of_noise["strength"])
    at = where(of_noise, strength=strength)
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
    label = style.STRENGTH_LABEL[noise]
    return (
        f"Mean magnitude of the cumulative shift over all BN layers at {label} {strength:g}: "
        f"{'; '.join(parts)}.{_of_channels(at, where(layers, noise='none'))}"
    )


def _of_channels(layers: pd.DataFrame, without_noise: pd.DataFrame) -> str:
    """What the channels of the deepest layer show, beside the same without noise."""
    sentences = []
    for column, what in (("mean_shift", "mean shift"), ("log_ratio_rms", "rms over channels of log r")):
        if column not in layers:
            continue
        named = [(placement, where(layers, placement=placement)) for placement in placements_in(layers)]
        numbers = []
        for name, here in [*named, ("no noise", without_noise)]:
            deepest = here[here["layer_index"] == here["layer_index"].max()]
            interval = mean_interval(per_seed(deepest, column, []))
            numbers += [f"{name} {interval}"] if interval.n else []
        sentences += [f" Deepest layer's {what}: {'; '.join(numbers)}."] if numbers else []
    return "".join(sentences)
