"""Figure 5: how the shift of before_weight depends on the width, and on what of the width."""

import pandas as pd
from matplotlib.axes import Axes

from ..select import (
    CannotAnswerError,
    behind_noise,
    example_strength,
    means,
    of_one_family,
    require,
    values_in,
    where,
)
from ..stats import mean_interval, paired_difference, per_seed
from ..tables import Study
from . import style
from .drawing import Drawing

PANELS = {  # quantity -> title, unit
    "local_ratio": ("local shift", style.RATIO_LABEL),
    "shift_ratio": ("cumulative shift", style.RATIO_LABEL),
    "d_cos2": ("Eq 12: what width acts through", "$d\\,\\cos^2$"),
    "input_corr": ("Eq 12: the correlation it needs", "input correlation $\\rho$"),
}
THEORIES = {"local_ratio_exact": "-", "ratio_paper": ":"}

READING = (
    "Each point is the mean over the BN layers with noise of their own and over seeds, with its 95 % "
    "interval. In the first panel the solid line is the exact law and the dotted one the paper's Eq 12, "
    "both at the measured moments. Eq 12 lets width act only through v rho (d cos² - 1): where rho is "
    "about 0, or d cos² about 1, it says that width changes nothing."
)


def points_of(layers: pd.DataFrame) -> pd.DataFrame:
    """Mean over the BN layers, with the interval over seeds, of every quantity in the figure."""
    return means(layers, [*PANELS, *THEORIES], ["strength", "width"])


def draw(study: Study) -> Drawing:
    """Draw the figure from one network's finished members."""
    layers = require(
        where(study.layers, placement="before_weight"), "BN layer of a finished before_weight member"
    )
    noise, layers = of_one_family(layers)
    layers = behind_noise(layers)
    points = require(points_of(layers), "BN layer behind noise with a measured shift")
    widths = values_in(points, "width")
    if len(widths) == 1:
        raise CannotAnswerError(f"This study has before_weight members of one width only ({widths[0]}).")
    label = style.STRENGTH_LABEL[noise]
    colours = style.strength_colours(points["strength"])
    with style.figure_style():
        title = "Shift of before_weight against the width"
        figure, axes = style.panels(2, 2, title, study.name, width=4.4, sharex=True)
        axes[0, 0].sharey(axes[0, 1])
        for panel, (quantity, (what, unit)) in zip(axes.flat, PANELS.items(), strict=True):
            panel.set(title=what, ylabel=unit)
            _draw_panel(panel, points, quantity, colours)
        is_ratio = points["quantity"].isin(["local_ratio", "shift_ratio", *THEORIES])
        style.ratio_axis(axes[0, 0], points.loc[is_ratio, "mean"])
        axes[0, 0].set_xscale("log", base=2)
        style.ticks_at(axes[0, 0].xaxis, widths)
        for panel in axes[-1]:
            panel.set_xlabel("width (features)")
        style.legend_below(figure, _legend(colours, label))
    return Drawing(figure, points, READING, _finding(layers, label))


def _draw_panel(panel: Axes, points: pd.DataFrame, quantity: str, colours: dict) -> None:
    is_local = quantity == "local_ratio"
    for strength, colour in colours.items():
        measured = where(points, strength=strength, quantity=quantity)
        style.error_bars(panel, measured["width"], measured, fmt="o" if is_local else "o-", color=colour)
        for theory, line in THEORIES.items() if is_local else ():
            predicted = where(points, strength=strength, quantity=theory)
            panel.plot(predicted["width"], predicted["mean"], ls=line, color=colour)


def _legend(colours: dict, label: str) -> list:
    strengths = [
        style.key(f"{label} {strength:g}", color=colour, marker="o", ls="")
        for strength, colour in colours.items()
    ]
    return [
        *strengths,
        style.key("exact law", color=style.DARK),
        style.key("Eq 12", color=style.DARK, ls=":"),
    ]


def _finding(layers: pd.DataFrame, label: str) -> str:
    strength = example_strength(layers["strength"])
    at = where(layers, strength=strength)
    widths = values_in(at, "width")
    narrow, wide = where(at, width=widths[0]), where(at, width=widths[-1])
    ends = {
        quantity: (per_seed(narrow, quantity, []), per_seed(wide, quantity, []))
        for quantity in ["local_ratio", "d_cos2", "input_corr"]
    }
    local, d_cos2, rho = (
        f"{mean_interval(first).mean:.3g} to {mean_interval(last).mean:.3g}" for first, last in ends.values()
    )
    change = paired_difference(ends["local_ratio"][1], ends["local_ratio"][0])
    return (
        f"At {label} {strength:g}, from width {widths[0]} to {widths[-1]}, the local ratio goes from {local} "
        f"(paired change {change}), d cos² from {d_cos2} and rho from {rho}."
    )
