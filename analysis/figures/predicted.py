"""Figure 4: measured shift of every BN layer: local against its formulas, cumulative against the closure."""

import pandas as pd
from matplotlib.axes import Axes

from ..closure_errors import SHIFTS, TARGETS, closure_errors
from ..select import placements_in, require, where
from ..tables import Study
from . import style
from .curves import added
from .drawing import Drawing

FORMULAS = {  # name -> column, the placements that it speaks of
    "exact law": ("local_ratio_exact", ["before_bn", "before_weight"]),
    "Eq 8": ("ratio_paper", ["before_bn"]),
    "Eq 12": ("ratio_paper", ["before_weight"]),
}
CLOSURE = "closure"
TITLES = {
    "exact law": "exact law: checks the code",
    "Eq 8": "the paper's Eq 8",
    "Eq 12": "the paper's Eq 12",
    CLOSURE: "closure: cumulative",
}
CORNERS = {  # where a placement's medians stand, off the line: place, alignment
    "before_bn": ((0.04, 0.96), ("left", "top")),
    "before_weight": ((0.96, 0.04), ("right", "bottom")),
    "after_last_bn": ((0.04, 0.04), ("left", "bottom")),
}
PERCENTS = [-100, -10, -1, 0, 1, 10, 100, 1000]

DOTS = 20_000  # of a formula; more hide each other, and take as long to draw as all other figures

READING = (
    "Each dot is one BN layer of one member. Above: measured local ratio r against the predicted one; on the "
    "line they are equal. Below: by how many percent what noise adds to the variance, 1/r - 1, differs from "
    "what is predicted of it (linear up to 1 %, logarithmic beyond); the ratio itself hides errors where "
    "noise is weak. The exact law is an identity of what is measured: its distance is Monte Carlo error, "
    "which checks the code and falls as measure.draws grows. Eq 8 and Eq 12 are predictions: they assume "
    "that all inputs share one mean, one variance and one correlation."
)
READING_FEWER = " Dots are of {} of {} seeds, medians of all."
READING_CLOSURE = (
    " Right: the cumulative shift behind one large batch, against the closure, which reads weights and training "
    "data and draws no noise; BN layers behind the first that shift by more than 10 %."
)


def points_of(layers: pd.DataFrame) -> pd.DataFrame:
    """A row per BN layer, member and formula.

    `error` is measured / predicted - 1 of the ratio r, `error_added` the same of 1/r - 1, what noise adds.
    """
    identity = layers[["placement", "width", "noise", "strength", "seed", "layer_index"]]
    tables = [
        identity.assign(formula=formula, predicted=layers[column], measured=layers["local_ratio"])[
            layers["placement"].isin(placements)
        ]
        for formula, (column, placements) in FORMULAS.items()
    ]
    if {TARGETS["population"], "shift_ratio_predicted"} <= {*layers}:  # studies of older versions lack them
        judged = closure_errors(layers)
        judged = judged[(judged["log_ratio"].abs() > SHIFTS) & (judged["noise"] != "none")]
        cumulative = {"predicted": judged["shift_ratio_predicted"], "measured": judged[TARGETS["population"]]}
        tables.append(judged[identity.columns].assign(formula=CLOSURE, **cumulative))
    points = pd.concat(tables, ignore_index=True).dropna(subset=["predicted", "measured"])
    measured, predicted = points["measured"], points["predicted"]
    return points.assign(error=measured / predicted - 1, error_added=added(measured) / added(predicted) - 1)


def draw(study: Study) -> Drawing:
    """Draw the figure from one network's finished members."""
    measured = require(points_of(study.layers), "BN layer behind noise with a measured and a predicted shift")
    formulas = [formula for formula in TITLES if (measured["formula"] == formula).any()]
    placements = placements_in(measured)
    points, reading = _few(measured)
    with style.figure_style():
        shape = {"width": 3.6, "height": 2.8, "sharex": True, "sharey": "row", "height_ratios": [3, 2]}
        title = "Measured shift against its formulas"
        figure, axes = style.panels(2, len(formulas), title, study.name, **shape)
        for column, formula in enumerate(formulas):
            here = where(points, formula=formula)
            _draw_formula(axes[0, column], axes[1, column], here, where(measured, formula=formula))
            axes[0, column].set_title(TITLES[formula])
            axes[1, column].set_xlabel(f"predicted {style.RATIO_LABEL}")
        axes[0, 0].set_ylabel(f"measured {style.RATIO_LABEL}")
        axes[1, 0].set_ylabel("error of what\nnoise adds (%)")
        axes[1, 0].set_yscale("symlog", linthresh=1)  # the exact law is off by a percent, Eq 12 by tens
        style.ticks_at(axes[1, 0].yaxis, PERCENTS)
        percent = 100 * points["error_added"]
        axes[1, 0].set_ylim(1.5 * min(percent.min(), -1), 1.5 * max(percent.max(), 1))
        colours = style.PLACEMENT_COLOUR
        style.legend_below(
            figure, [style.key(name, color=colours[name], ls="", marker="o") for name in placements]
        )
    reading = READING + reading + READING_CLOSURE * (CLOSURE in formulas)
    return Drawing(figure, points, reading, _finding(measured))


def _few(points: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The points of as many seeds as can be told apart, at least one, and what is said of that."""
    of_seed = points.groupby(["seed", "formula"]).size().unstack(fill_value=0).cumsum().max(axis=1)
    kept = of_seed.index[of_seed <= max(DOTS, of_seed.iloc[0])]
    if len(kept) == len(of_seed):
        return points, ""
    return points[points["seed"].isin(kept)], READING_FEWER.format(len(kept), len(of_seed))


def _draw_formula(above: Axes, below: Axes, points: pd.DataFrame, measured: pd.DataFrame) -> None:
    ratios = points[["predicted", "measured"]]
    ends = [ratios.min().min(), ratios.max().max()]
    above.plot(ends, ends, color=style.GREY, lw=1)
    below.axhline(0, color=style.GREY, lw=1)
    for placement in placements_in(points):
        here = where(points, placement=placement)
        look = {"color": style.PLACEMENT_COLOUR[placement], "marker": "o", "ms": 3, "mew": 0, "alpha": 0.5}
        look |= {"ls": "", "rasterized": True}  # thousands of dots
        above.plot(here["predicted"], here["measured"], **look)
        below.plot(here["predicted"], 100 * here["error_added"], **look)
        all_of_it = where(measured, placement=placement)
        ratio, added = _medians(all_of_it)
        said = f"{placement}\n{len(all_of_it)} BN layers\nmedian |error|\nratio {ratio}\nadded {added}"
        (x, y), (across, along) = CORNERS[placement]
        place = {"transform": above.transAxes, "ha": across, "va": along}
        above.text(x, y, said, fontsize="small", **place)


def _medians(points: pd.DataFrame) -> list[str]:
    """Median absolute error of the ratio, and of what noise adds."""
    return [f"{100 * points[name].abs().median():.2g} %" for name in ("error", "error_added")]


def _finding(points: pd.DataFrame) -> str:
    said = []
    for formula in TITLES:
        here = where(points, formula=formula)
        parts = [
            "{} {}, what noise adds {}".format(name, *_medians(where(here, placement=name)))
            for name in placements_in(here)
        ]
        said += [f"{formula}: {', '.join(parts)}"] if parts else []
    return f"Median absolute error of the ratio, and of what noise adds (1/ratio - 1). {'; '.join(said)}."
