"""Figures of statements about train() and eval(), by the number of the statement.

Each is drawn from what its experiment measured: the dictionary in the column `measured` of modes.csv.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..figures import style
from ..figures.drawing import Drawing

GAPS = {
    "mean": ("#0072b2", "o", "mean, % of a standard deviation"),
    "variance": ("#d55e00", "s", "variance, %"),
}
SWEEPS = {  # what is varied -> title; the values that the other panels have are momentum 0.1, batch 64
    "momentum": "momentum",
    "batch_size": "batch size",
    "is_shuffled": "order of the samples",
    "lr": "learning rate, SGD momentum 0.9",
}
WORDS = {True: "shuffled", False: "class by class", "cumulative": "plain\naverage"}
PLACEMENTS = ["before_bn", "before_weight"]
LINES = {0.3: "--", 0.5: "-"}


class StatementChart(NamedTuple):
    """A statement's figure: its file name, the question it answers, and what draws the numbers measured."""

    name: str
    question: str
    draw: Callable[[dict[str, Any]], Drawing]


def draw_stored_statistics(measured: dict[str, Any]) -> Drawing:
    """Draw how far BN's stored mean and variance are from the exact ones, in a panel for each thing varied."""
    rows = [
        {"varied": key, "value": value, "quantity": quantity, "gap": gap}
        for key in SWEEPS
        for quantity in GAPS
        for value, gap in zip(measured[key], measured[f"{quantity}_gap_percent_by_{key}"], strict=True)
    ]
    points = pd.DataFrame(rows)
    with style.figure_style():
        title = "BN's stored statistics against the exact ones of all training data"
        figure, axes = style.panels(
            1, 4, title, "after 100 batches of digits; root mean square over 64 features", sharey=True
        )
        for panel, (key, what) in zip(axes.flat, SWEEPS.items(), strict=True):
            values = measured[key]
            for quantity, (colour, marker, _) in GAPS.items():
                gaps = measured[f"{quantity}_gap_percent_by_{key}"]
                line = "" if key == "is_shuffled" else "-"
                panel.plot(range(len(values)), gaps, ls=line, marker=marker, color=colour)
            labels = [WORDS[value] if isinstance(value, bool | str) else f"{value:g}" for value in values]
            if key == "lr":
                labels[0] = "frozen"
            panel.set_xticks(range(len(values)), labels)
            panel.set_xlim(-0.4, len(values) - 0.6)
            panel.set(yscale="log", title=what)
        axes[0, 0].set_ylabel("gap, percent")
        axes[0, 0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        style.legend_below(
            figure,
            [style.key(label, color=colour, marker=marker) for colour, marker, label in GAPS.values()],
        )
    reading = (
        "Each panel varies one thing; the others are momentum 0.1, batches of 64, shuffled, weights frozen. "
        "After 100 batches the initial 0 and 1 still weigh (1 - momentum)^100: 37 % at momentum 0.01. "
        "At momentum 1 the last batch is all that is stored."
    )
    return Drawing(figure, points, reading, "")


def draw_batch_size(measured: dict[str, Any]) -> Drawing:
    """Draw the test error with BN in train mode against the batch size, beside eval mode."""
    kinds = {
        "vector": ("#d55e00", "o", "BN on vectors: 1 value a channel and sample"),
        "image": ("#0072b2", "s", "BN on 8x8 feature maps: 64 values"),
    }
    sizes = measured["batch_size"]
    points = pd.DataFrame(
        {"kind": kind, "batch_size": size, "error": error}
        for kind in kinds
        for size, error in [
            *zip(sizes, measured[f"{kind}_error_train_mode_percent"], strict=True),
            (None, measured[f"{kind}_error_eval_mode_percent"]),  # whatever the batch
        ]
    )
    with style.figure_style():
        title = "Test error against the size of the test batch"
        figure, axes = style.panels(1, 1, title, "256 test digits; dropout off", height=3.2)
        (panel,) = axes.flat
        for kind, (colour, marker, _) in kinds.items():
            known = points[points["kind"] == kind].dropna()
            panel.plot(known["batch_size"], known["error"], marker=marker, color=colour)
            panel.axhline(measured[f"{kind}_error_eval_mode_percent"], color=colour, ls=":", lw=1.2)
        panel.set_xscale("log", base=2)
        style.ticks_at(panel.xaxis, sizes)
        panel.set(xlabel="samples in a test batch", ylabel="test error, %")
        panel.set_ylim(bottom=0)
        style.legend_below(
            figure,
            [
                *(style.key(label, color=colour, marker=marker) for colour, marker, label in kinds.values()),
                style.key("eval mode", color=style.DARK, ls=":"),
            ],
            columns=2,
        )
    reading = (
        "Solid: BN in train mode, so that a sample is normalised by its batch. Dotted: eval mode, which does "
        "not depend on the batch."
    )
    if measured["vector_error_train_mode_percent"][0] is None:
        reading += " No point for a single vector: torch refuses it, because one value has no variance."
    return Drawing(figure, points, reading, "")


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


STATEMENT_CHARTS = {
    7: StatementChart(
        "modes_stored_statistics", "How far are BN's stored statistics off?", draw_stored_statistics
    ),
    14: StatementChart("modes_batch_size", "What do small test batches cost?", draw_batch_size),
    23: StatementChart("modes_depth", "Does the shift accumulate with depth?", draw_depth),
    24: StatementChart("modes_uout", "What does noise from [0, 1] do?", draw_uout),
    25: StatementChart("modes_remedies", "Which remedy helps where?", draw_remedies),
    26: StatementChart("modes_corners", "In which mode is the shift?", draw_corners),
}
