"""Figure 6: test error against the strength of the noise, before and after BN adjustment."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..schema import PLACEMENTS
from ..select import (
    example_strength,
    means,
    noises_in,
    placements_in,
    require,
    values_in,
    where,
)
from ..stats import Interval, mean_interval, per_seed
from ..tables import Study
from . import style
from .drawing import Drawing

QUANTITIES = ["test_error", "test_error_adjusted"]

READING = (
    "Mean over seeds with its 95 % interval. Filled: as trained. Open: after BN adjustment, that is with "
    "BN's statistics estimated again without noise. Grey: the same network trained without noise."
)


def points_of(members: pd.DataFrame) -> pd.DataFrame:
    """Mean test error, with its interval over seeds, as trained and adjusted; the baseline has noise none."""
    return means(members, QUANTITIES, ["noise", "placement", "width", "strength"])


def draw(study: Study) -> Drawing:
    """Draw the figure from one network's finished members."""
    points = points_of(study.members)
    baseline = where(points, noise="none", quantity="test_error")
    noisy = require(points[points["noise"] != "none"], "finished member with noise and a test error")
    noises, widths = noises_in(noisy), values_in(noisy, "width")
    with style.figure_style():
        title = "Test error against the strength of the noise"
        figure, axes = style.panels(len(noises), len(widths), title, study.name, sharey=True, sharex="row")
        for row, noise in enumerate(noises):
            of_noise = where(noisy, noise=noise)
            for column, width in enumerate(widths):
                panel = axes[row, column]
                panel.set(title=f"{noise}, width {width}", xlabel=style.STRENGTH_LABEL[noise])
                _draw_baseline(panel, where(baseline, width=width))
                _draw_noisy(panel, where(of_noise, width=width))
            axes[row, 0].set(xlim=(0, 1.08 * of_noise["strength"].max()), ylabel="test error (%)")
        style.error_axis(axes[0, 0], points["mean"])
        style.legend_below(figure, _legend(placements_in(noisy), not baseline.empty), columns=3)
    return Drawing(figure, points, READING, _finding(study.members))


def _draw_baseline(panel: Axes, baseline: pd.DataFrame) -> None:
    for mean, low, high in baseline[["mean", "low", "high"]].to_numpy():
        panel.axhline(mean, color=style.GREY, lw=1)
        if not np.isnan(low):
            panel.axhspan(low, high, color=style.GREY, alpha=0.18, lw=0)


def _draw_noisy(panel: Axes, here: pd.DataFrame) -> None:
    if here.empty:
        style.note(panel, "not in this study")
        return
    step = 0.009 * here["strength"].max()  # equal errors must not hide each other
    series = [(placement, quantity) for placement in PLACEMENTS for quantity in QUANTITIES]
    for place, (placement, quantity) in enumerate(series):
        points = where(here, placement=placement, quantity=quantity)
        adjusted = {"fmt": "o--", "mfc": "white"} if quantity == "test_error_adjusted" else {"fmt": "o-"}
        x = points["strength"] + (place - 2.5) * step
        style.error_bars(panel, x, points, color=style.PLACEMENT_COLOUR[placement], mew=1.2, **adjusted)


def _legend(placements: list[str], baseline: bool) -> list:
    return [
        *(style.key(name, color=style.PLACEMENT_COLOUR[name], lw=3) for name in placements),
        style.key("as trained", color=style.DARK, marker="o"),
        style.key("BN adjusted", color=style.DARK, marker="o", mfc="white", ls="--", mew=1.2),
        *[style.key("no noise", color=style.GREY, lw=4, alpha=0.5)] * baseline,
    ]


def _finding(members: pd.DataFrame) -> str:
    baseline = per_seed(where(members, noise="none"), "test_error", ["width"])
    parts = []
    for noise in noises_in(members):
        of_noise = where(members, noise=noise)
        strength = example_strength(of_noise["strength"])
        at = where(of_noise, strength=strength)
        for placement in placements_in(at):
            error, adjusted = (
                per_seed(where(at, placement=placement), quantity, ["width"]) for quantity in QUANTITIES
            )
            cost, gain = _mean_change(error, baseline), _mean_change(adjusted, error)
            said = [f"noise {_in_points(cost)}"] * bool(cost.n)
            said += [f"adjustment {_in_points(gain)}"] * bool(gain.n)
            name = f"{placement}, {style.STRENGTH_LABEL[noise]} {strength:g}"
            parts.append(f"{name}: {', '.join(said) or 'nothing to compare with'}")
    return (
        "Change of the test error in percentage points, paired over seeds, mean over widths. "
        f"{'; '.join(parts)}.{_extremes(members)}"
    )


def _extremes(members: pd.DataFrame) -> str:
    """Where adjusting BN takes most errors away, and where it adds most."""
    noisy = members[members["noise"] != "none"].dropna(subset=QUANTITIES)
    errors = noisy.groupby(["placement", "noise", "strength", "width"], as_index=False)[QUANTITIES].mean()
    errors["gain"] = errors["test_error"] - errors["test_error_adjusted"]
    said = []
    for verb, found in (("wins back", errors.nlargest(1, "gain")), ("loses", errors.nsmallest(1, "gain"))):
        for _, row in found.iterrows():  # one, or none
            if row["gain"] and (row["gain"] > 0) == (verb == "wins back"):
                at = f"{row['placement']}, {style.STRENGTH_LABEL[row['noise']]} {row['strength']:g}"
                errors_there = f"{row['test_error']:.1f} to {row['test_error_adjusted']:.1f} %"
                said.append(f"{verb} most in {at}, width {row['width']} ({errors_there})")
    return f" Adjusting BN {' and '.join(said)}." if said else ""


def _mean_change(after: pd.Series, before: pd.Series) -> Interval:
    """Interval over seeds of after - before, both by width and seed, averaged over the widths of both."""
    return mean_interval((after - before).dropna().groupby("seed").mean())


def _in_points(change: Interval) -> str:
    return f"{change.mean:+.2f}" + (
        "" if np.isnan(change.low) else f" [{change.low:+.2f}, {change.high:+.2f}]"
    )
