"""Figure 7: what the shift costs, by the stored means and by the stored variances, and what it costs the twin."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from ..interventions import MATTERS, TOGETHER, effects, harm_or_help
from ..select import (
    CannotAnswerError,
    example_strength,
    means,
    noises_in,
    placements_in,
    require,
    values_in,
    where,
)
from ..stats import mean_estimate, per_seed
from ..tables import Study
from . import style
from .drawing import Drawing

MEANS, VARIANCES, OTHER = "#0072b2", "#d55e00", "#999999"
WEIGHTS = {  # whose weights -> effect -> label, colour
    "noisy": {
        "total": ("shift", style.DARK),
        "means": ("its means", MEANS),
        "variances": ("its variances", VARIANCES),
        "removal": ("what adjusting BN wins back", OTHER),
    },
    "clean": {
        "twin_shift": ("shift", style.DARK),
        "twin_means": ("its means", MEANS),
        "twin_variances": ("its variances", VARIANCES),
        "twin_random": ("means moved as far at random", OTHER),
    },
}
NET = {effect: f"{effect}_net" for effect in WEIGHTS["noisy"]}  # less the same of the noise-free twin
PARTS = ("means", "variances")
TICKS = [sign * step * 10**power for power in range(3) for step in (1, 3) for sign in (-1, 1)]
BAND = {"color": "#000000", "alpha": 0.06, "lw": 0}

READING = (
    "Percentage points of test error, means over seeds with each its own 95 % interval; linear up to 1 "
    "point, logarithmic beyond. Noisy weights: BN's statistics are re-estimated with noise on (the shift), "
    "then its means, its variances or both are made right, layer by layer. The effect of the means is the "
    "average of what they cost behind wrong and behind right variances, that of the variances likewise; "
    "together they are the shift's. Filled: gross; open: net of the same in the noise-free twin (same seed). "
    "Clean weights: the twin is made to show each layer's variance ratio and the size of its mean shift, and "
    "nothing else of the noisy network. In the grey bands the interval of what the shift costs on noisy "
    "weights holds 0: there is nothing to explain. Rows in which that is so throughout are left out where "
    "others are not. Where the shift costs nothing, one setting in 20 is told from 0 by chance. An effect "
    f"harms above {MATTERS:g} points, helps below -{MATTERS:g} and does neither between, where two intervals that "
    "cover together with 95 % say so; else it is undecided."
)


def points_of(members: pd.DataFrame) -> pd.DataFrame:
    """Every effect in points, with its interval over seeds, by placement, width, noise and strength.

    `told` says whether the interval of the shift's own cost, on noisy weights, lies on one side of 0, and `empty`
    whether it holds 0; a single seed gives no interval and neither. `does` is what means and variances do, decided
    together, see `analysis.interventions.harm_or_help`.
    """
    found = effects(members)
    by = ["placement", "width", "noise", "strength"]
    points = means(found, [*NET, *NET.values(), "interaction", *WEIGHTS["clean"]], by)
    total = where(points, quantity="total")
    told, empty = (total["low"] > 0) | (total["high"] < 0), (total["low"] <= 0) & (total["high"] >= 0)
    points = points.merge(total.assign(told=told, empty=empty)[[*by, "told", "empty"]], on=by)
    decided = []
    for part in PARTS:
        groups = per_seed(found, part, by).groupby(level=by)
        words = [harm_or_help(*mean_estimate(values).interval(TOGETHER)) for _, values in groups]
        decided.append(groups.size().index.to_frame(index=False).assign(quantity=part, does=words))
    return points.merge(pd.concat(decided), on=[*by, "quantity"], how="left")


def draw(study: Study) -> Drawing:
    """Draw the figure from one network's finished members."""
    require(where(study.members, norm="batch"), "finished member with batch norm")
    points = points_of(study.members)
    if points.empty:
        raise CannotAnswerError("This study has no interventions (measure.interventions=false).")
    drawn = points[~points.groupby(["noise", "placement"])["empty"].transform("all")]
    drawn = where(points, noise=noises_in(points)[0]) if drawn.empty else drawn
    rows = [(n, p) for n in noises_in(drawn) for p in placements_in(where(drawn, noise=n))]
    columns = [(width, weights) for width in values_in(points, "width") for weights in WEIGHTS]
    with style.figure_style():
        title = "What the shift costs, by means and by variances"
        figure, axes = style.panels(len(rows), len(columns), title, study.name, sharey=True, sharex="row")
        for row, (noise, placement) in enumerate(rows):
            for panel, (width, weights) in zip(axes[row], columns, strict=True):
                panel.set_title(f"width {width}, {weights} weights")
                here = where(drawn, noise=noise, placement=placement)
                _draw_panel(panel, where(here, width=width), weights, values_in(here, "strength"))
            axes[row, 0].set(
                ylabel=f"{placement}, {noise}\ncost (points)", xlabel=style.STRENGTH_LABEL[noise]
            )
        _scale(axes[0, 0], drawn)
        style.legend_below(figure, _legend(), columns=4)
    shown = drawn[drawn["quantity"].isin([*NET, *NET.values(), *WEIGHTS["clean"]])]
    return Drawing(figure, shown, READING, _finding(points))


def _scale(axes: Axes, points: pd.DataFrame) -> None:
    """An axis with room for every interval."""
    ends = points[["mean", "low", "high"]]
    low, high = min(1.4 * ends.min().min(), -1), max(1.4 * ends.max().max(), 1)
    axes.set_yscale("symlog", linthresh=1)
    style.ticks_at(axes.yaxis, [0, *(tick for tick in TICKS if low < tick < high)])
    axes.set_ylim(low, high)


def _draw_panel(panel: Axes, here: pd.DataFrame, weights: str, strengths: list[float]) -> None:
    if here.empty:
        style.note(panel, "not in this study")
        return
    place = {strength: float(index) for index, strength in enumerate(strengths)}
    panel.set_xticks(list(place.values()), [f"{strength:.3g}" for strength in strengths])
    panel.set_xlim(-0.5, len(strengths) - 0.5)
    panel.grid(axis="x", visible=False)
    panel.axhline(0, color=style.GREY, lw=0.9)
    for strength in values_in(where(here, empty=True), "strength"):
        panel.axvspan(place[strength] - 0.5, place[strength] + 0.5, **BAND)
    offsets = np.linspace(-0.33, 0.33, len(WEIGHTS[weights]))
    for offset, (effect, (_, colour)) in zip(offsets, WEIGHTS[weights].items(), strict=True):
        pair = [(effect, colour), (NET[effect], "white")] if effect in NET else [(effect, colour)]
        for place_in_pair, (quantity, face) in enumerate(pair):
            marks = where(here, quantity=quantity)
            x = marks["strength"].map(place) + offset + 0.1 * (place_in_pair - (len(pair) - 1) / 2)
            style.error_bars(panel, x, marks, color=colour, mfc=face, fmt="o", ms=4, mew=1.1)


def _legend() -> list:
    noisy, clean = WEIGHTS["noisy"], WEIGHTS["clean"]
    dot = {"marker": "o", "ls": "", "ms": 4}
    return [
        *(style.key(label, color=colour, **dot) for label, colour in list(noisy.values())[:3]),
        Patch(label="nothing to explain", **BAND),
        style.key(f"noisy: {noisy['removal'][0]}", color=OTHER, **dot),
        style.key(f"clean: {clean['twin_random'][0]}", color=OTHER, **dot),
        style.key("noisy: net of the twin", color=style.DARK, mfc="white", mew=1.1, **dot),
    ]


def _finding(points: pd.DataFrame) -> str:
    """In how many settings there is something to explain, and the numbers where the shift costs most."""
    totals, some = where(points, quantity="total"), where(points, told=True)
    if totals["low"].isna().all():
        return "A single seed gives no interval: no cost is told from 0."
    said = (
        f"The shift's cost is told from 0 in {totals['told'].sum()} of {len(totals)} settings (placement, width, "
        "noise, strength)"
    )
    if some.empty:
        return f"{said}: there is nothing to explain."
    parts = []
    for part in PARTS:
        counts = where(some, quantity=part)["does"].value_counts().sort_index()
        parts.append(f"the {part}: {', '.join(f'{word} in {count}' for word, count in counts.items())}")
    said += f". What they do there, {'; '.join(parts)}."
    sentences = []
    for noise in noises_in(some):
        for placement in placements_in(where(some, noise=noise)):
            here = where(some, noise=noise, placement=placement)
            at = example_strength(here["strength"])
            row = where(here, quantity="total", strength=at).sort_values("width").iloc[0]
            sentences.append(_setting(where(here, strength=at, width=row["width"]), noise, placement))
    return " ".join([said, *sentences])


def _setting(here: pd.DataFrame, noise: str, placement: str) -> str:
    """The numbers of one setting in a sentence."""
    first = here.iloc[0]
    numbers = {quantity: _in_points(row) for quantity, row in here.set_index("quantity").iterrows()}
    parts = []
    for effect, label in (
        ("total", "the shift costs"),
        ("means", "its means"),
        ("variances", "its variances"),
    ):
        net = f" (net {numbers[NET[effect]]})" if NET[effect] in numbers else ""
        parts.append(f"{label} {numbers[effect]}{net}")
    sentence = (
        f"{placement}, {style.STRENGTH_LABEL[noise]} {first['strength']:g}, width {first['width']}: "
        f"{', '.join(parts)}, interaction {numbers['interaction']}"
    )
    if "twin_shift" in numbers:
        sentence += (
            f"; clean weights: shift {numbers['twin_shift']}, means {numbers['twin_means']}, variances "
            f"{numbers['twin_variances']}"
        )
    return sentence + "."


def _in_points(row: pd.Series) -> str:
    mean, low, high = (round(row[name], 2) + 0.0 for name in ("mean", "low", "high"))  # no -0.00
    return f"{mean:+.2f}" + ("" if np.isnan(low) else f" [{low:+.2f}, {high:+.2f}]")
