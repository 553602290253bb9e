"""What BN's statistics are worth, given its batches: statements 7 and 14."""

from typing import Any

import pandas as pd

from analysis.figures import style
from analysis.figures.drawing import Drawing

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
        for size, error in zip(sizes, measured[f"{kind}_error_train_mode_percent"], strict=True)
    )
    with style.figure_style():
        title = "Test error against the size of the test batch"
        figure, axes = style.panels(1, 1, title, "256 test digits; dropout off", height=3.2)
        (panel,) = axes.flat
        for kind, (colour, marker, _) in kinds.items():
            known = points[(points["kind"] == kind) & points["error"].notna()]
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
