"""The shift in its modes, depths, noises and remedies: statements 23 to 26."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.figures import style
from analysis.figures.drawing import Drawing

PLACEMENTS = ["before_bn", "before_weight"]
LINES = {0.3: "--", 0.5: "-"}


def draw_depth(measured: dict[str, Any]) -> Drawing:
    """Draw the shift ratio of each BN layer of an MLP of 8, for two placements and two drop rates."""
    layers = measured["layer"]
    points = pd.DataFrame(
        {"placement": placement, "rate": rate, "layer": layer, "ratio": ratio}
        for placement in PLACEMENTS
        for rate in LINES
        for layer, ratio in zip(layers, measured[f"shift_ratio_{placement}_{rate:g}"], strict=True)
    )
    with style.figure_style():
        figure, axes = style.panels(
            1, 1, "Shift ratio by depth", "MLP on digits, 8 BN layers of width 64, 2 seeds", height=3.2
        )
        (panel,) = axes.flat
        for placement in PLACEMENTS:
            for rate, line in LINES.items():
                ratios = measured[f"shift_ratio_{placement}_{rate:g}"]
                panel.plot(layers, ratios, ls=line, marker="o", color=style.PLACEMENT_COLOUR[placement])
        panel.axhline(1, **style.NOMINAL_LINE)
        panel.set(yscale="log", xlabel="BN layer", ylabel=style.RATIO_LABEL)
        panel.set_xticks(layers)
        panel.yaxis.set_major_locator(LogLocator(subs=[1, 2, 5]))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
        style.legend_below(
            figure,
            [
                style.key(
                    f"{placement}, drop rate {rate:g}", color=style.PLACEMENT_COLOUR[placement], ls=line
                )
                for placement in PLACEMENTS
                for rate, line in LINES.items()
            ],
            columns=2,
        )
    reading = "Grey: no shift. Layer 1 is left out: before_weight has no noise before it."
    return Drawing(figure, points, reading, "")


def draw_uout(measured: dict[str, Any]) -> Drawing:
    """Draw what each range of uniform noise does to the mean and variance at the first BN, and to the error."""
    ranges = measured["noise_range"]
    quantities = {
        "mean_shift_in_stored_std": ("mean off by,\nstored standard deviations", 0.0),
        "shift_ratio": (style.RATIO_LABEL, 1.0),
        "test_error_percent": ("test error, %", None),
    }
    points = pd.DataFrame(
        {"noise_range": noise_range, "quantity": quantity, "value": value}
        for quantity in quantities
        for noise_range, value in zip(ranges, measured[quantity], strict=True)
    )
    colours = [style.PLACEMENT_COLOUR["before_bn"] if label == "[0, 1]" else style.GREY for label in ranges]
    with style.figure_style():
        figure, axes = style.panels(
            1, 3, "Uout by the range of its noise", "x + x r before each of two BN layers; digits", height=2.6
        )
        for panel, (quantity, (label, ideal)) in zip(axes.flat, quantities.items(), strict=True):
            panel.bar(range(len(ranges)), measured[quantity], color=colours, width=0.6)
            panel.set_xticks(range(len(ranges)), ranges, rotation=35, ha="right")
            panel.set_ylabel(label)
            panel.set_ylim(top=1.12 * max(measured[quantity]))
            panel.grid(axis="x", visible=False)
            if ideal is not None:
                panel.axhline(ideal, **style.NOMINAL_LINE)
            for place, value in enumerate(measured[quantity]):
                panel.annotate(
                    f"{value:.2g}", (place, value), (0, 2), textcoords="offset points", ha="center", size=8
                )
    reading = (
        "First BN layer, training data, eval mode against what BN stored in train mode (weights frozen, "
        "plain average). Grey dashes: no shift."
    )
    return Drawing(figure, points, reading, "")


def draw_remedies(measured: dict[str, Any]) -> Drawing:
    """Draw the local ratio of the third BN layer against the drop rate, and against the width."""
    axes_of = {"rate": ("drop_rate", "drop rate (width 32)"), "width": ("width", "width (drop rate 0.5)")}
    points = pd.DataFrame(
        {"varied": key, "value": value, "placement": placement, "ratio": ratio}
        for key, (values, _) in axes_of.items()
        for placement in PLACEMENTS
        for value, ratio in zip(measured[values], measured[f"local_ratio_by_{key}_{placement}"], strict=True)
    )
    with style.figure_style():
        figure, axes = style.panels(
            1,
            2,
            "Two remedies",
            "MLP on digits, third BN layer, its own noise only",
            width=3.5,
            height=2.6,
            sharey=True,
        )
        for panel, (key, (values, label)) in zip(axes.flat, axes_of.items(), strict=True):
            for placement in PLACEMENTS:
                ratios = measured[f"local_ratio_by_{key}_{placement}"]
                panel.plot(measured[values], ratios, marker="o", color=style.PLACEMENT_COLOUR[placement])
            panel.axhline(1, **style.NOMINAL_LINE)
            panel.set_xlabel(label)
            panel.set_xticks(measured[values], [f"{value:g}" for value in measured[values]])
        axes[0, 1].set_xscale("log", base=2)
        style.ticks_at(axes[0, 1].xaxis, measured["width"])
        axes[0, 0].set(ylabel=f"local {style.RATIO_LABEL}", ylim=(0, 1.09))
        style.legend_below(
            figure, [style.key(name, color=style.PLACEMENT_COLOUR[name], marker="o") for name in PLACEMENTS]
        )
    return Drawing(figure, points, "Grey dashes: no shift. Left: less noise. Right: wider layers.", "")


def draw_corners(measured: dict[str, Any]) -> Drawing:
    """Draw the shift ratio and the test accuracy in the four combinations of BN's mode and dropout's."""
    modes = ["train", "eval"]
    tables = {
        "shift_ratio": ("variance read / variance divided by", "{:.2f}"),
        "test_accuracy_percent": ("test accuracy", "{:.1f} %"),
    }
    points = pd.DataFrame(
        {
            "bn": bn,
            "dropout": dropout,
            "quantity": quantity,
            "value": measured[f"{quantity}_bn_{bn}_dropout_{dropout}"],
        }
        for quantity in tables
        for bn in modes
        for dropout in modes
    )
    away = LinearSegmentedColormap.from_list("away", ["#ffffff", style.PLACEMENT_COLOUR["before_bn"]])
    with style.figure_style():
        figure, axes = style.panels(
            1,
            2,
            "All four combinations of modes",
            "BN + Dropout(0.5) network on digits, second BN layer",
            height=2.6,
        )
        for panel, (quantity, (title, form)) in zip(axes.flat, tables.items(), strict=True):
            values = points[points["quantity"] == quantity]["value"].to_numpy().reshape(2, 2)
            best = 1.0 if quantity == "shift_ratio" else values.max()
            distance = np.abs(np.log(values / best))
            panel.imshow(distance, cmap=away, vmin=0, vmax=1.6 * max(distance.max(), 1e-9), aspect="auto")
            for (row, column), value in np.ndenumerate(values):
                panel.text(column, row, form.format(value), ha="center", va="center", size=12)
            panel.set_xticks([0, 1], [f"dropout {mode}" for mode in modes])
            panel.set_yticks([0, 1], [f"BN {mode}" for mode in modes])
            panel.set_title(title)
            panel.grid(visible=False)
    reading = (
        "Darker: further from no shift (left), from the best accuracy (right). eval() gives the corner below "
        "right, train() the one above left."
    )
    return Drawing(figure, points, reading, "")
