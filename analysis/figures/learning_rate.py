"""Figure: is it the noise, or a learning rate that suits some placements and not others?"""

import pandas as pd
from matplotlib.axes import Axes

from ..claims.evidence import evidence
from ..select import (
    CannotAnswerError,
    means,
    of_one_family,
    placements_in,
    require,
    values_in,
    where,
)
from ..stats import Interval, mean_interval, over_seeds, per_seed
from ..tables import Study
from . import style
from .drawing import Drawing

READING = (
    "Upper rows: error on the validation part against the maximum learning rate, a line a strength, the "
    "dashed one without noise; the ring marks the rate chosen for each, by the mean over seeds. Test data "
    "has no say in it. Last row: test error at the chosen rates, a line a width; the grey lines are the "
    "networks without noise at their own best rate. Means over seeds with 95 % intervals."
)
WIDTH_LINES = ["-", "--", ":", "-."]


def draw(study: Study) -> Drawing:
    """Draw the figure from the finished members of all learning rates."""
    members = where(study.members, norm="batch")
    rates = values_in(members.dropna(subset=["lr"]), "lr") if "lr" in members else []
    if len(rates) < 2:
        raise CannotAnswerError(
            "This study has members of one learning rate only (+sweep=learning_rate has four)."
        )
    if "validation_error" not in members or members["validation_error"].isna().all():
        raise CannotAnswerError(
            "This study has no validation part to choose a learning rate by (data.validation)."
        )
    noise, noisy = of_one_family(members)
    members = pd.concat([where(members, noise="none"), noisy])
    tried = means(members, ["validation_error"], ["placement", "width", "strength", "lr"])
    chosen = where(evidence(study).members, norm="batch")
    chosen = chosen[chosen["noise"].isin(["none", noise])]
    tested = require(
        over_seeds(chosen, "test_error", ["placement", "width", "strength", "lr"]), "member with a test error"
    )
    placements, widths = placements_in(tried), values_in(tried, "width")
    colours = style.strength_colours(noisy["strength"])
    with style.figure_style():
        title = "The best learning rate of each placement and strength"
        figure, axes = style.panels(
            len(widths) + 1, len(placements), title, study.name, width=3, sharey="row"
        )
        for column, placement in enumerate(placements):
            for row, width in enumerate(widths):
                panel = axes[row, column]
                panel.set(title=f"{placement}, width {width}", xscale="log", xlabel="learning rate")
                style.ticks_at(panel.xaxis, rates)
                _draw_tried(panel, where(tried, width=width), where(tested, width=width), placement, colours)
            _draw_tested(axes[-1, column], tested, placement, widths)
            axes[-1, column].set(
                title=f"{placement}, at the chosen rates", xlabel=style.STRENGTH_LABEL[noise]
            )
        for row, width in enumerate(widths):
            axes[row, 0].set_ylabel("validation error (%)")
            style.error_axis(axes[row, 0], where(tried, width=width)["mean"])
        axes[-1, 0].set_ylabel("test error (%)")
        style.error_axis(axes[-1, 0], tested["mean"])
        style.legend_below(figure, _legend(colours, style.STRENGTH_LABEL[noise], widths), columns=4)
    points = pd.concat([tried, tested.assign(quantity="test_error")], ignore_index=True)
    return Drawing(figure, points, READING, _finding(chosen, style.STRENGTH_LABEL[noise]))


def _draw_tried(
    panel: Axes, tried: pd.DataFrame, tested: pd.DataFrame, placement: str, colours: dict[float, tuple]
) -> None:
    for kind in (placement, "none"):
        here = where(tried, placement=kind)
        for strength in values_in(here, "strength"):
            line = where(here, strength=strength)
            look = (
                {"color": colours[strength], "fmt": "o-"}
                if kind != "none"
                else {"color": style.GREY, "fmt": "--"}
            )
            style.error_bars(panel, line["lr"], line, ms=4, lw=1.2, **look)
            best = where(tested, placement=kind, strength=strength)["lr"]
            ring = line[line["lr"].isin(best)]
            panel.plot(ring["lr"], ring["mean"], "o", ms=10, mfc="none", mew=1.4, color=look["color"])


def _draw_tested(panel: Axes, tested: pd.DataFrame, placement: str, widths: list) -> None:
    for width, line in zip(widths, WIDTH_LINES, strict=False):
        here = where(tested, placement=placement, width=width)
        colour = style.PLACEMENT_COLOUR[placement]
        style.error_bars(panel, here["strength"], here, fmt=f"o{line}", color=colour, ms=4)
        for mean in where(tested, placement="none", width=width)["mean"]:
            panel.axhline(mean, color=style.GREY, ls=line, lw=1)


def _legend(colours: dict[float, tuple], label: str, widths: list) -> list:
    return [
        *(
            style.key(f"{label} {strength:g}", color=colour, marker="o")
            for strength, colour in colours.items()
        ),
        style.key("no noise", color=style.GREY, ls="--"),
        *(
            style.key(f"width {width}", color=style.DARK, ls=line)
            for width, line in zip(widths, WIDTH_LINES, strict=False)
        ),
    ]


def _finding(chosen: pd.DataFrame, label: str) -> str:
    """At the chosen rates: which they are, and what each placement shifts and costs at its strongest noise."""
    baseline = per_seed(where(chosen, placement="none"), "test_error", ["width"])
    parts = []
    for placement in placements_in(chosen):
        here = where(chosen, placement=placement)
        strength = float(here["strength"].max())
        here = where(here, strength=strength)
        cost = (per_seed(here, "test_error", ["width"]) - baseline).groupby("seed").mean()
        shift = mean_interval(per_seed(here, "shift", []))
        parts.append(
            f"{placement} {label} {strength:g} chooses {_rates(here)}, shifts by {_short(shift, '.2f')} and costs "
            f"{_short(mean_interval(cost), '+.1f')} points"
        )
    return (
        f"Without noise the best rate is {_rates(where(chosen, placement='none'))}. {'; '.join(parts)} (means "
        "over widths, paired over seeds)."
    )


def _rates(members: pd.DataFrame) -> str:
    by_width = members.groupby("width")["lr"].first()
    return ", ".join(f"{rate:g} (width {width})" for width, rate in by_width.items())


def _short(interval: Interval, digits: str) -> str:
    ends = "" if interval.n < 2 else f" [{interval.low:{digits}}, {interval.high:{digits}}]"
    return f"{interval.mean:{digits}}{ends}"
