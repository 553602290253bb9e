"""The paper's Figure 3 and Table 1: cos^2 between filters and the all-ones vector, and d cos^2 against d."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from .. import paper
from ..beside.measured import means_of_table1, measured_convolutions
from ..beside.setting import PaperStudy, names_in
from ..paper.findings import CLAIMED_COS2_RANGE
from ..select import require, where
from ..stats import over_seeds
from . import style
from .drawing import Drawing

READING = (
    "Networks trained without noise. Top: cos^2 of each convolution, the mean over its filters; bold "
    "ours, with the "
    "95 % interval over seeds, thin the paper's; the grey band is the range (0.01, 0.10) that the paper "
    "states. "
    "Bottom: d cos^2 against the fan-in d of a convolution, the mean over the convolutions of that d; "
    "along the "
    "dashed line it would be 1, as for a filter of independent weights without a mean. Our curves hold the "
    "convolutions that a BN layer reads, the paper's WRN also those on shortcuts. Intervals that reach 0 leave "
    "the logarithmic axes. Setting: {}."
)


def draw(study: PaperStudy) -> Drawing:
    """Draw the figure: a column for each network and data set."""
    layers = require(measured_convolutions(study), "network of the paper's trained without noise")
    points = over_seeds(layers, "cos2", ["dataset", "network", "depth"]).assign(quantity="cos2")
    by_fan_in = over_seeds(layers, "d_cos2", ["dataset", "network", "fan_in"]).assign(quantity="d_cos2")
    names = names_in(layers)
    published = [_published(dataset, network) for dataset, network in names]
    with style.figure_style():
        title = "cos$^2$ beside the paper's Figure 3"
        figure, axes = style.panels(2, len(names), title, study.scale, width=2.5, sharey="row")
        for column, ((dataset, network), theirs) in enumerate(zip(names, published, strict=True)):
            name = {"dataset": dataset, "network": network}
            axes[0, column].set_title(f"{network}\n{dataset}")
            _draw_depth(axes[0, column], where(points, **name), where(theirs, quantity="published cos2"))
            _draw_fan_in(
                axes[1, column], where(by_fan_in, **name), where(theirs, quantity="published d_cos2")
            )
        axes[0, 0].set(ylabel="cos$^2$", yscale="log")
        axes[1, 0].set(ylabel="d cos$^2$", yscale="log")
        entries = [
            style.key("ours", color=style.PLACEMENT_COLOUR["before_weight"], marker="o", lw=2),
            style.key("the paper's", color=style.DARK, lw=0.8, marker=".", ms=3),
        ]
        style.legend_below(figure, entries)
    table = means_of_table1(study)
    drawn = pd.concat([points, by_fan_in, *published], ignore_index=True)
    return Drawing(figure, drawn, READING.format(study.scale), _finding(layers, table))


def _published(dataset: str, network: str) -> pd.DataFrame:
    """The paper's curves of a network, in the columns of ours."""
    curves = where(paper.figure3(), dataset=dataset, network=network).rename(columns={"value": "mean"})
    cos2, d_cos2 = (where(curves, quantity=name) for name in ("cos2", "d_cos2"))
    cos2 = cos2.assign(depth=cos2["x"] / max(1, cos2["x"].max()))
    d_cos2 = d_cos2.rename(columns={"x": "fan_in"}).sort_values("fan_in")
    both = pd.concat([cos2, d_cos2])
    columns = ["dataset", "network", "depth", "fan_in", "mean", "quantity"]
    return both.assign(quantity="published " + both["quantity"])[columns]


def _draw_depth(panel: Axes, ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    panel.axhspan(*CLAIMED_COS2_RANGE, color=style.GREY, alpha=0.15, lw=0)
    panel.plot(theirs["depth"], theirs["mean"], color=style.DARK, lw=0.8, alpha=0.7)
    look = {"color": style.PLACEMENT_COLOUR["before_weight"], "lw": 2, "ms": 4.5, "zorder": 5}
    style.error_bars(panel, ours["depth"], ours, fmt="o-", **look)
    panel.set(xlabel="relative depth of convolution", xticks=[0, 0.5, 1])


def _draw_fan_in(panel: Axes, ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    panel.axhline(1, **style.NOMINAL_LINE)
    panel.plot(theirs["fan_in"], theirs["mean"], color=style.DARK, lw=0.8, marker=".", ms=3, alpha=0.7)
    look = {"color": style.PLACEMENT_COLOUR["before_weight"], "lw": 2, "ms": 4.5, "zorder": 5}
    style.error_bars(panel, ours["fan_in"], ours, fmt="o-", **look)
    panel.set(xlabel="fan-in d", xscale="log")
    panel.xaxis.set_minor_formatter(NullFormatter())


def _finding(layers: pd.DataFrame, table: pd.DataFrame) -> str:
    low, high = CLAIMED_COS2_RANGE
    outside = ((layers["cos2"] <= low) | (layers["cos2"] >= high)).mean()
    published = paper.figure3().query("quantity == 'cos2'")["value"]
    theirs = ((published <= low) | (published >= high)).mean()
    d_cos2 = where(table, quantity="mean_d_cos2")
    shares = f"{outside:.0%} of our convolutions and {theirs:.0%} of the paper's"
    said = f"cos^2 lies outside ({low}, {high:.2f}) in {shares}."
    if len(d_cos2):
        said += (
            f" Mean d cos^2: ours {d_cos2['mean'].min():.2f} to {d_cos2['mean'].max():.2f}, "
            f"the paper's {d_cos2['published'].min():.2f} to {d_cos2['published'].max():.2f}."
        )
    return said
