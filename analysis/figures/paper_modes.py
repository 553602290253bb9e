"""The paper's Figure 5: accuracy on the training set in train mode and in eval mode, epoch by epoch."""

import pandas as pd

from .. import paper
from ..beside.setting import PaperStudy, names_in
from ..select import (
    CannotAnswerError,
    values_in,
    where,
)
from ..stats import over_seeds, paired_difference, per_seed
from . import style
from .drawing import Drawing

MODES = {"train_mode": "train_error_train_mode", "eval_mode": "train_error_eval_mode"}
LINES = {"train_mode": "-", "eval_mode": (0, (3, 1.5))}

READING = (
    "Accuracy on the training set of one and the same network after each epoch: solid in train mode, with "
    "its noise "
    "and with the statistics of each batch, dashed in eval mode. Bold: ours, means over seeds, the band "
    "their 95 % "
    "interval. Thin: the paper's, one run each. The axis is the share of all epochs. Without dropout the "
    "two modes "
    "should agree. Setting: {}."
)


def accuracies(study: PaperStudy) -> pd.DataFrame:
    """Training accuracy in percent by dataset, network, strength, mode, `share` of all epochs, and seed.

    Only members without noise and with dropout before BN, as in the paper; empty when no modes were followed.
    """
    epochs = study.epochs
    epochs = epochs[(epochs["noise"] == "none") | (epochs["placement"] == "before_bn")]
    epochs = epochs[epochs["noise"].isin(["none", "dropout"])]
    share = epochs["epoch"] / epochs.groupby(["dataset", "network"])["epoch"].transform("max")
    parts = [
        epochs.assign(mode=mode, share=share.astype(float), accuracy=100 - epochs[column])
        for mode, column in MODES.items()
    ]
    columns = ["dataset", "network", "strength", "mode", "share", "seed", "accuracy"]
    return pd.concat(parts, ignore_index=True)[columns].dropna()


def draw(study: PaperStudy) -> Drawing:
    """Draw the figure: a panel for each network and data set."""
    table = accuracies(study)
    if table.empty:
        raise CannotAnswerError("No epoch's errors in both modes were kept (recipe.track_modes).")
    points = over_seeds(table, "accuracy", ["dataset", "network", "strength", "mode", "share"])
    names = names_in(table)
    colours = style.strength_colours(points["strength"])
    theirs = paper.figure5()
    length = theirs.groupby(["dataset", "network"])["epoch"].transform("max")
    theirs = theirs.assign(share=(theirs["epoch"] + 1) / (length + 1))
    shown = theirs.merge(pd.DataFrame(names, columns=["dataset", "network"]))
    shown = shown[shown["drop_ratio"].isin(list(colours))]
    shown = shown.rename(columns={"drop_ratio": "strength", "accuracy_pct": "mean"})
    shown = shown[["dataset", "network", "strength", "mode", "share", "mean"]].assign(quantity="published")
    with style.figure_style():
        title = "Training accuracy in both modes beside the paper's Figure 5"
        figure, axes = style.panels(1, len(names), title, study.scale, width=3.4, height=2.8, sharey=True)
        for panel, (dataset, network) in zip(axes[0], names, strict=True):
            panel.set_title(f"{network}, {dataset}")
            panel.set(xlabel="share of all epochs", ylim=(0, 101))
            for strength, colour in colours.items():
                for mode, line in LINES.items():
                    chosen = {"dataset": dataset, "network": network, "mode": mode}
                    published = where(shown, strength=strength, **chosen)
                    panel.plot(
                        published["share"],
                        published["mean"],
                        color=colour,
                        ls=line,
                        lw=0.6,
                        alpha=0.7,
                    )
                    ours = where(points, strength=strength, **chosen)
                    panel.plot(ours["share"], ours["mean"], color=colour, ls=line, lw=2.2)
                    known = ours.dropna(subset=["low"])
                    panel.fill_between(
                        known["share"], known["low"], known["high"], color=colour, alpha=0.12, lw=0
                    )
        axes[0, 0].set_ylabel("training accuracy (%)")
        entries = [
            *(style.key(f"drop rate {rate:g}", color=colour, lw=3) for rate, colour in colours.items()),
            style.key("train mode", color=style.DARK, lw=2.2),
            style.key("eval mode", color=style.DARK, lw=2.2, ls=LINES["eval_mode"]),
            style.key("the paper's", color=style.DARK, lw=0.6),
        ]
        style.legend_below(figure, entries, columns=5)
    drawn = pd.concat([points.assign(quantity="accuracy"), shown], ignore_index=True)
    return Drawing(figure, drawn, READING.format(study.scale), _finding(table, theirs))


def _finding(table: pd.DataFrame, theirs: pd.DataFrame) -> str:
    parts = []
    for (dataset, network), here in where(table, share=1.0).groupby(["dataset", "network"]):
        for strength in values_in(here, "strength"):
            modes = [per_seed(where(here, strength=strength, mode=mode), "accuracy", []) for mode in MODES]
            gap = paired_difference(*modes)
            published = where(theirs, dataset=dataset, network=network, drop_ratio=strength, share=1.0)
            by_mode = published.set_index("mode")["accuracy_pct"]
            beside = (
                f", the paper's {by_mode['train_mode'] - by_mode['eval_mode']:.2f}"
                if len(by_mode) == 2
                else ""
            )
            parts.append(f"{network} on {dataset}, drop rate {strength:g}: {gap}{beside}")
    return f"Accuracy in train mode less that in eval mode after the last epoch, points: {'; '.join(parts)}."
