"""Figure 4: measured local shift of every BN layer against the exact law and the paper's Eq 8 and 12."""

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.select import placements_in, require, where
from analysis.tables import Study

THEORIES = {"local_ratio_exact": "exact law", "ratio_paper": "the paper's Eq 8 and Eq 12"}
MANY = 5000  # dots beyond which an SVG holds them as a picture, so that the page stays light enough to mail
PERCENTS = [-100, -10, -1, 0, 1, 10, 100, 1000]

READING = (
    "Each dot is one BN layer of one member. Above: measured local ratio against the predicted one; on "
    "the line they are equal. Below: by how many percent the measurement differs from the prediction "
    "(linear up to 1 %, logarithmic beyond). The exact law assumes nothing about the activations; Eq 8 "
    "and Eq 12 assume that all inputs share one mean, one variance and one correlation."
)


def points_of(layers: pd.DataFrame) -> pd.DataFrame:
    """A row per BN layer, member and theory; error = measured / predicted - 1."""
    identity = layers[["placement", "width", "noise", "strength", "seed", "layer_index"]]
    tables = [
        identity.assign(theory=theory, predicted=layers[theory], measured=layers["local_ratio"])
        for theory in THEORIES
    ]
    points = pd.concat(tables, ignore_index=True).dropna(subset=["predicted", "measured"])
    return points.assign(error=points["measured"] / points["predicted"] - 1)


def draw(study: Study) -> Drawing:
    """Draw the figure from one network's finished members."""
    points = require(points_of(study.layers), "BN layer behind noise with a measured and a predicted shift")
    theories = [theory for theory in THEORIES if (points["theory"] == theory).any()]
    placements = placements_in(points)
    with style.figure_style():
        shape = {"width": 4.4, "height": 2.8, "sharex": True, "sharey": "row", "height_ratios": [3, 2]}
        figure, axes = style.panels(
            2, len(theories), "Measured local shift against theory", study.name, **shape
        )
        for column, theory in enumerate(theories):
            _draw_theory(axes[0, column], axes[1, column], where(points, theory=theory))
            axes[0, column].set_title(THEORIES[theory])
            axes[1, column].set_xlabel(f"predicted {style.RATIO_LABEL}")
        axes[0, 0].set_ylabel(f"measured {style.RATIO_LABEL}")
        axes[1, 0].set_ylabel("measured / predicted - 1 (%)")
        axes[1, 0].set_yscale(
            "symlog", linthresh=1
        )  # the exact law is off by tenths of a percent, Eq 12 by tens
        style.ticks_at(axes[1, 0].yaxis, PERCENTS)
        percent = 100 * points["error"]
        axes[1, 0].set_ylim(1.5 * min(percent.min(), -1), 1.5 * max(percent.max(), 1))
        colours = style.PLACEMENT_COLOUR
        style.legend_below(
            figure, [style.key(name, color=colours[name], ls="", marker="o") for name in placements]
        )
    return Drawing(figure, points, READING, _finding(points))


def _draw_theory(above: Axes, below: Axes, points: pd.DataFrame) -> None:
    ratios = points[["predicted", "measured"]]
    ends = [ratios.min().min(), ratios.max().max()]
    above.plot(ends, ends, color=style.GREY, lw=1)
    below.axhline(0, color=style.GREY, lw=1)
    for placement in placements_in(points):
        here = where(points, placement=placement)
        look = {"color": style.PLACEMENT_COLOUR[placement], "marker": "o", "ms": 3, "mew": 0, "alpha": 0.5}
        look |= {"ls": "", "rasterized": len(points) > MANY}
        above.plot(here["predicted"], here["measured"], **look)
        below.plot(here["predicted"], 100 * here["error"], **look)
    said = f"median |error| {_median_error(points)}\n{len(points)} BN layers"
    above.text(0.04, 0.95, said, transform=above.transAxes, va="top")


def _median_error(points: pd.DataFrame) -> str:
    return f"{100 * points['error'].abs().median():.2f} %"


def _finding(points: pd.DataFrame) -> str:
    parts = []
    for placement in placements_in(points):
        here = where(points, placement=placement)
        errors = [
            f"{_median_error(where(here, theory=theory))} from {name}"
            for theory, name in THEORIES.items()
            if (here["theory"] == theory).any()
        ]
        parts.append(f"{placement} {', '.join(errors)}")
    return f"Median absolute error of the prediction: {'; '.join(parts)}."
