"""Figure 1: shift ratio against the drop rate, for each placement and width, over theory."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..select import (
    behind_noise,
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
from ..theory import noise_variance, ratio_nominal
from . import style
from .curves import drawn_at, ratio_curve
from .drawing import Drawing

THEORIES = {"local_ratio_exact": "-", "ratio_paper": ":"}
DEEPEST = {"shift_ratio": "deepest", "shift_ratio_predicted": "deepest_predicted"}  # column -> quantity

READING = (
    "Each point is the mean over the BN layers with noise of their own (under after_last_bn none has any:"
    " all layers) and over seeds, with its 95 % interval. Filled: local, only this layer's noise switched"
    " off, which is what theory speaks of. Open: cumulative, what BN meets at test time, when the noise "
    "upstream is gone too. Below 1, BN divides by too much."
)
READING_DEEPEST = (
    " Diamonds: the cumulative ratio of the deepest BN layer alone. Dash-dotted: as the closure predicts it "
    "from weights and training data, for a large batch and weights at rest."
)


def points_of(layers: pd.DataFrame) -> pd.DataFrame:
    """Mean over the BN layers, with the interval over seeds, of every quantity in the figure.

    Those of `DEEPEST` are of the deepest layer alone, and there only where the closure has a prediction.
    """
    by = ["placement", "width", "strength", "noise_variance"]
    points = means(layers, ["local_ratio", "shift_ratio", *THEORIES], by)
    if "shift_ratio_predicted" not in layers:  # studies of older versions lack it
        return points
    deepest = where(layers, layer_index=layers["layer_index"].max()).dropna(subset=["shift_ratio_predicted"])
    return pd.concat([points, means(deepest.rename(columns=DEEPEST), [*DEEPEST.values()], by)])


def with_curves(points: pd.DataFrame, noise: str) -> pd.DataFrame:
    """The points of what is measured, with curves in the place of those of theory, and `nominal`."""
    of_theory = points["quantity"].isin([*THEORIES, DEEPEST["shift_ratio_predicted"]])
    curves = [
        _curve(where(points, placement=placement, width=width), noise, placement, width)
        for placement in placements_in(points)
        for width in values_in(points, "width")
    ]
    return pd.concat([points[~of_theory], *curves], ignore_index=True)


def _curve(here: pd.DataFrame, noise: str, placement: str, width: int) -> pd.DataFrame:
    """The curves of one panel, none where nothing was measured."""
    if here.empty:
        return here
    strengths = drawn_at(here["strength"])
    variances = np.array([noise_variance(noise, strength) for strength in strengths])
    nominal = np.ones_like(variances) if placement == "after_last_bn" else ratio_nominal(variances)
    curves = {"nominal": nominal}
    for theory in (*THEORIES, DEEPEST["shift_ratio_predicted"]):
        predicted = where(here, quantity=theory)
        if not predicted.empty:
            curves[theory] = ratio_curve(predicted, variances)
    at = {"placement": placement, "width": width, "strength": strengths, "noise_variance": variances}
    return pd.concat([pd.DataFrame({**at, "quantity": name, "mean": mean}) for name, mean in curves.items()])


def draw(study: Study) -> Drawing:
    """Draw the figure from one network's finished members."""
    noise, layers = of_one_family(study.layers)
    layers = behind_noise(layers)
    measured = require(points_of(layers), "BN layer with a measured shift")
    points = with_curves(measured, noise)
    placements, widths = placements_in(points), values_in(points, "width")
    has_deepest = bool(points["quantity"].isin(DEEPEST.values()).any())
    label = style.STRENGTH_LABEL[noise]
    with style.figure_style():
        title = f"Variance shift against the {label}"
        figure, axes = style.panels(len(placements), len(widths), title, study.name, sharex=True, sharey=True)
        for row, placement in enumerate(placements):
            for column, width in enumerate(widths):
                axes[row, column].set_title(f"{placement}, width {width}")
                here = where(points, placement=placement, width=width)
                _draw_panel(axes[row, column], here, placement)
            axes[row, 0].set_ylabel(style.RATIO_LABEL)
        for panel in axes[-1]:
            panel.set_xlabel(label)
        axes[0, 0].set_xlim(0, 1.06 * points["strength"].max())
        style.ratio_axis(axes[0, 0], measured["mean"])
        style.legend_below(figure, _legend(has_deepest), columns=2)
    return Drawing(figure, points, READING + READING_DEEPEST * has_deepest, _finding(layers, label))


def _draw_panel(panel: Axes, here: pd.DataFrame, placement: str) -> None:
    if here.empty:
        style.note(panel, "not in this study")
        return
    colour = style.PLACEMENT_COLOUR[placement]
    nominal = where(here, quantity="nominal")
    panel.plot(nominal["strength"], nominal["mean"], **style.NOMINAL_LINE)
    for theory, line in {**THEORIES, DEEPEST["shift_ratio_predicted"]: "-."}.items():
        curve = where(here, quantity=theory)
        if not curve.empty:
            panel.plot(curve["strength"], curve["mean"], color=colour, ls=line, alpha=0.8)
    dodge = 0.01 * here["strength"].max()  # where the two agree, both stay visible
    for quantity, face, side in [("shift_ratio", "white", 1), ("local_ratio", colour, -1)]:
        measured = where(here, quantity=quantity)
        x = measured["strength"] + side * dodge
        style.error_bars(panel, x, measured, fmt="o", color=colour, mfc=face, mew=1.2)
    deepest = where(here, quantity=DEEPEST["shift_ratio"])
    if not deepest.empty:
        style.error_bars(panel, deepest["strength"], deepest, fmt="D", color=colour, mfc="white", ms=4, mew=1)


def _legend(has_deepest: bool) -> list:
    point = {"color": style.DARK, "ls": "", "marker": "o", "mew": 1.2}
    entries = [
        style.key("local: only this layer's noise off", **point),
        style.key("cumulative: all noise off", mfc="white", **point),
        style.key("exact law at the measured moments", color=style.DARK),
        style.key("the paper's Eq 8 or 12 at the measured moments", color=style.DARK, ls=":"),
        style.key("nominal: Eq 8 with c = 0 (1 under after_last_bn)", **style.NOMINAL_LINE),
    ]
    if has_deepest:
        entries += [
            style.key(
                "deepest BN layer, cumulative", mfc="white", **point | {"marker": "D", "ms": 4, "mew": 1}
            ),
            style.key("deepest BN layer, the closure", color=style.DARK, ls="-."),
        ]
    return entries


def _finding(layers: pd.DataFrame, label: str) -> str:
    strength = example_strength(layers["strength"])
    parts = []
    for placement in placements_in(where(layers, strength=strength)):
        here = where(layers, strength=strength, placement=placement)
        ratios = {"cumulative": "shift_ratio", "local": "local_ratio"}
        found = {word: mean_interval(per_seed(here, column, [])) for word, column in ratios.items()}
        numbers = ", ".join(f"{interval} {word}" for word, interval in found.items() if interval.n)
        parts.append(f"{placement} {numbers or 'no shift measured'}")
    return f"At {label} {strength:g}, mean over these layers and all widths: {'; '.join(parts)}."
