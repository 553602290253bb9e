"""The paper's Figure 6: training images that a network gets right in train mode and wrong in eval mode."""

import base64
import io

import matplotlib.image
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..beside.setting import PaperStudy
from ..select import KIND, example_strength, require, where
from ..stats import mean_interval
from . import style
from .drawing import Drawing

CLASSES = {  # of the data sets with few enough to name
    "CIFAR10": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
}
EXAMPLES = 8
MEMBER = ["dataset", "network", *KIND, "seed"]

READING = (
    "Training images of one network with frozen weights: in train mode it names their class, in eval mode "
    "another. "
    "Beside each image its logits, filled in train mode, open in eval mode; the true class is on top of "
    "the image, the "
    "answer in eval mode below it. The first such images in the order of the batches, not chosen. "
    "Setting: {}."
)


def shares(study: PaperStudy) -> pd.DataFrame:
    """Percentage of training images lost and won in eval mode: a row per member that lost any."""
    return study.flips.drop_duplicates(MEMBER)


def draw(study: PaperStudy) -> Drawing:
    """Draw the first examples of the network whose placement and strength the paper discusses."""
    flips = require(study.flips, "training images kept that flip between the modes (measure.flips)")
    noisy = flips[flips["noise"] != "none"]
    flips = flips if noisy.empty else noisy
    flips = where(flips, strength=example_strength(flips["strength"]))
    first = flips.iloc[0][MEMBER]
    of_member = (flips[MEMBER] == first).all(axis=1)
    shown = flips[of_member].head(EXAMPLES).reset_index(drop=True)
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    noise = f"{first['placement']}, {first['noise']} {first['strength']:g}"
    member = f"{first['network']} on {first['dataset']}, {noise}"
    scale = study.part((first["dataset"], first["network"])).scale
    with style.figure_style():
        figure, axes = style.panels(
            rows,
            2 * columns,
            "Right in train mode, wrong in eval mode",
            f"{member}; {scale}",
            width=1.45,
            height=1.9,
            together=2,
        )
        for panel in axes.ravel():
            panel.set_axis_off()
        for index, flip in shown.iterrows():
            row, column = divmod(int(index), columns)  # type: ignore[arg-type]
            _draw_image(axes[row, 2 * column], flip)
            _draw_logits(axes[row, 2 * column + 1], flip)
            if row == rows - 1:
                axes[row, 2 * column + 1].set_xlabel("logit")
        entries = [
            style.key("train mode", color=style.DARK, marker="o", ls=""),
            style.key("eval mode", color=style.DARK, marker="o", mfc="white", ls=""),
        ]
        style.legend_below(figure, entries)
    return Drawing(figure, shown, READING.format(scale), _finding(study))


def class_name(dataset: str, label: int) -> str:
    """A class as its data set calls it, or by its number."""
    return CLASSES[dataset][label] if dataset in CLASSES else f"class {label}"


def _draw_image(panel: Axes, flip: pd.Series) -> None:
    if flip["image"]:
        pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(flip["image"])), format="png")
        panel.imshow(pixels, interpolation="nearest", cmap="gray")
    panel.set_title(class_name(flip["dataset"], flip["label"]))
    wrong = class_name(flip["dataset"], flip["eval_mode_class"])
    panel.text(0.5, -0.04, f"eval: {wrong}", transform=panel.transAxes, ha="center", va="top")


def _draw_logits(panel: Axes, flip: pd.Series) -> None:
    in_train, in_eval = (
        np.array(flip[f"logits_{mode}"].split(), dtype=float) for mode in ("train_mode", "eval_mode")
    )
    panel.set_axis_on()
    classes = np.arange(len(in_train))
    colours = [style.GREY] * len(classes)
    colours[flip["label"]] = style.PLACEMENT_COLOUR["after_last_bn"]
    colours[flip["eval_mode_class"]] = style.PLACEMENT_COLOUR["before_bn"]
    panel.hlines(classes, in_eval, in_train, colors=colours, lw=1)
    panel.scatter(in_train, classes, c=colours, s=14, zorder=3)
    panel.scatter(in_eval, classes, facecolors="white", edgecolors=colours, s=14, zorder=3)
    panel.set_yticks([flip["label"], flip["eval_mode_class"]], ["true", "eval"])
    panel.invert_yaxis()
    panel.grid(visible=False, axis="y")


def _finding(study: PaperStudy) -> str:
    parts = []
    for (network, dataset, placement, strength), rows in shares(study).groupby(
        ["network", "dataset", "placement", "strength"]
    ):
        what = "without noise" if placement == "none" else f"{placement} {strength:g}"
        lost, won = mean_interval(rows["lost"]), mean_interval(rows["won"])
        parts.append(
            f"{network} on {dataset}, {what}: {lost.with_half_width(1)} % lost, {won.with_half_width(1)} % won"
        )
    said = "Share of the training images right in train mode and wrong in eval mode, and the opposite"
    return f"{said}: {'; '.join(parts)}."
