"""The tables of a study: which columns each has, and what a column holds.

The one schema for writing (`experiments.study.tables`), reading (`analysis.tables`, `analysis.modes`), W&B
(`experiments.loggers`) and the column tables of the documentation:

    python -m analysis.schema                 print the table of every table's columns
    python -m analysis.schema README.md ...   fill them in where these files have a marked place, see `fill_tables`

A further column is one more `Column`, and its name in the tables that have it.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .command import exit_status
from .theory.noises import FAMILIES, NO_NOISE

Cell = str | int | float

# Kinds of columns.
TEXT = "text"
WHOLE = "whole"
NUMBER = "number"

PLACEMENTS = ("before_bn", "before_weight", "after_last_bn")  # where noise can act; the baseline has "none"
STATUSES = ("ok", "diverged", "failed")
CLAIMS = (
    *(f"C{number}" for number in (*range(1, 7), "7a", "7b", *range(8, 14))),
    "Q1",
    "Q2",
    "Q3",
)  # by name
UNTIL = "until.json"  # in a study that goes on until these are decided: at how many seeds it is looked at
VERDICTS = ("confirmed", "refuted", "needs care", "failed")  # on a statement; failed: its experiment raised

# The columns that tell members apart, with which every table of members begins.
IDENTITY = (
    *("data", "model", "width", "depth", "norm"),
    *("placement", "noise", "strength", "noise_variance", "seed"),
)
RECIPE = ("lr", "weight_decay", "batch_size", "train_samples")  # behind them; a study may vary these too
MEMBER_KEY = (*IDENTITY, "lr", "weight_decay", "batch_size")  # of one job: `train_samples` may be empty there
NETWORK = ("data", "model", "depth", "norm")  # means and figures stay within one of these


@dataclass(frozen=True)
class Column:
    """A column, alike in every table that has it.

    Attributes:
        name: in the header.
        kind: TEXT, WHOLE (a whole number) or NUMBER.
        meaning: one plain line, Markdown.
        unit: of a number; "" for a word or a pure number.
        may_be_empty: there are rows in which it has no meaning, or was not measured.
        words: all that a text may be; none for any text.
    """

    name: str
    kind: str
    meaning: str
    unit: str = ""
    may_be_empty: bool = False
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table of a study.

    Attributes:
        rows: what it has a row for.
        columns: names, in order; all of them are written.
        required: those without which it is not read. A study of an older version may lack the others.
    """

    rows: str
    columns: tuple[str, ...]
    required: tuple[str, ...]


# Interventions, see `experiments.measuring.interventions`.
_CELLS = {
    "frozen": "BN's statistics re-estimated with noise on, weights frozen",
    "means_right": "the stored means of these made right, and the variances as wrong as they were",
    "variances_right": "the stored variances made right, and the means as wrong as they were",
    "both_right": "stored means and variances right",
}
_COARSE = {
    "variances": "each layer's `shift_ratio_frozen` and right means",
    "shift": "the same and a mean shift of the size `mean_shift_frozen`, along what the ratios induce",
    "means": "this mean shift alone",
    "random": "mean shifts of this size in random directions",
}

# fmt: off
_COLUMNS = (
    # identity
    Column("data", TEXT, "data set"),
    Column("model", TEXT, "network"),
    Column("width", WHOLE, "units or channels of the network's first blocks, `model.width`"),
    Column("depth", WHOLE, "blocks of the network, or of each of its stages, `model.depth`", may_be_empty=True),
    Column("norm", TEXT, "normalisation: `batch`, `group`, `layer` or `none`"),
    Column("placement", TEXT, "where the noise acts; `none` for the baseline", words=("none", *PLACEMENTS)),
    Column("noise", TEXT, "family of the noise; `none` for the baseline", words=(NO_NOISE.name, *FAMILIES)),
    Column("strength", NUMBER, "the family's own parameter, for dropout the *drop* rate; 0 for the baseline"),
    Column("noise_variance", NUMBER, "variance of the noise's factor, sigma^2"),
    Column("seed", WHOLE, "of initial weights, batches and noise; members of one seed are paired"),
    # recipe
    Column("lr", NUMBER, "maximum learning rate"),
    Column("weight_decay", NUMBER, "L2 penalty on all parameters"),
    Column("batch_size", WHOLE, "samples a training step"),
    Column("train_samples", WHOLE, "samples of the training set, without the validation part", may_be_empty=True),
    # members.csv
    Column("status", TEXT, "`ok`; `diverged`: the training loss left the finite numbers; `failed`: an error",
           words=STATUSES),
    Column("steps", WHOLE, "training steps finished", may_be_empty=True),
    Column("seconds", NUMBER, "time of training and measuring; members trained side by side share it evenly", "s",
           may_be_empty=True),
    Column("seconds_measuring", NUMBER, "its part after training", "s", may_be_empty=True),
    Column("train_error_train_mode", NUMBER, "error on the training set in train mode, weights frozen", "%",
           may_be_empty=True),
    Column("train_error_eval_mode", NUMBER, "error on the training set in eval mode", "%", may_be_empty=True),
    Column("validation_error", NUMBER, "error on the validation part in eval mode; empty without one", "%",
           may_be_empty=True),
    Column("test_error", NUMBER, "error on the test set in eval mode", "%", may_be_empty=True),
    Column("test_error_adjusted", NUMBER, "the same after BN adjustment", "%", may_be_empty=True),
    Column("train_error_adjusted", NUMBER, "error on the training set in eval mode after BN adjustment", "%",
           may_be_empty=True),
    Column("train_loss_eval_mode", NUMBER, "mean cross-entropy on the training set in eval mode", "nat",
           may_be_empty=True),
    Column("train_loss_adjusted", NUMBER, "the same after BN adjustment", "nat", may_be_empty=True),
    *(
        Column(f"{part}_{what}_{cell}", NUMBER, f"{what} on the {name} set with {meaning}", unit,
               may_be_empty=True)
        for part, name in (("train", "training"), ("test", "test"))
        for what, unit in (("error", "%"), ("loss", "nat"))
        for cell, meaning in _CELLS.items()
    ),
    *(
        Column(f"test_error_{where}_{key}", NUMBER, f"test error of {whose} that shows {meaning}", "%",
               may_be_empty=True)
        for where, whose in (("coarse", "this network"), ("twin", "its noise-free twin"))
        for key, meaning in _COARSE.items()
    ),
    Column("cut_channels", WHOLE, "stored variances that interventions would have set below 0, and set to 0",
           may_be_empty=True),
    Column("test_loss", NUMBER, "mean cross-entropy on the test set in eval mode", "nat", may_be_empty=True),
    Column("test_loss_adjusted", NUMBER, "the same after BN adjustment", "nat", may_be_empty=True),
    Column("reason", TEXT, "why the member diverged or failed", may_be_empty=True),
    Column("job", TEXT, "name of the member's setting: data, network, recipe and measurement"),
    # layers.csv
    Column("layer_index", WHOLE, "place of the BN layer, 1 = shallowest"),
    Column("layer_name", TEXT, "the layer's name as a module of the network"),
    Column("channels", WHOLE, "channels of the layer"),
    Column("moving_var", NUMBER, "BN's running variance, channel mean, as all variances here", may_be_empty=True),
    Column("train_var", NUMBER, "variance of BN's input in train mode, weights frozen, unbiased",
           may_be_empty=True),
    Column("test_var", NUMBER, "variance of BN's input in eval mode on the training set, unbiased",
           may_be_empty=True),
    Column("shift_ratio", NUMBER, "`test_var / moving_var`, the paper's Delta: below 1, BN divides by too much",
           may_be_empty=True),
    Column("mean_shift", NUMBER, "`(mean at test - running mean) / sqrt(running variance + eps)`, rms over "
           "channels", may_be_empty=True),
    Column("log_ratio_rms", NUMBER, "log of each channel's variance ratio (eps added to both), rms over channels",
           may_be_empty=True),
    Column("worst_channel_ratio", NUMBER, "the ratio that is furthest from 1 among them", may_be_empty=True),
    Column("shift_ratio_frozen", NUMBER, "`shift_ratio` behind statistics re-estimated with noise on, weights "
           "frozen", may_be_empty=True),
    Column("mean_shift_frozen", NUMBER, "`mean_shift` behind them", may_be_empty=True),
    Column("shift_ratio_population", NUMBER, "`shift_ratio` behind statistics of the whole training set as one "
           "batch, with noise on and weights frozen", may_be_empty=True),
    Column("mean_shift_population", NUMBER, "`mean_shift` behind them", may_be_empty=True),
    Column("shift_ratio_predicted", NUMBER, "`shift_ratio_population` by the closure, from weights and data alone",
           may_be_empty=True),
    Column("mean_shift_predicted", NUMBER, "`mean_shift_population` by the closure", may_be_empty=True),
    Column("finite_batch_factor", NUMBER, "`shift_ratio_frozen / shift_ratio_population`", may_be_empty=True),
    Column("staleness_factor", NUMBER, "`shift_ratio / shift_ratio_frozen`: weights move while BN averages",
           may_be_empty=True),
    Column("mean_shift_induced", NUMBER, "mean shift of the right means that the ratios `shift_ratio_frozen` of "
           "the layers before induce", may_be_empty=True),
    Column("mean_shift_induced_twin", NUMBER, "the same in the noise-free twin", may_be_empty=True),
    Column("shift_magnitude", NUMBER, "max(r, 1/r) of the shift ratio r, the paper's Figure 4", may_be_empty=True),
    Column("local_ratio", NUMBER, "shift ratio by the layer's own noise alone, upstream as in training: measured",
           may_be_empty=True),
    Column("local_ratio_exact", NUMBER, "the same by the exact law", may_be_empty=True),
    Column("ratio_paper", NUMBER, "the same by the paper's Eq 8 or Eq 12 at the measured moments",
           may_be_empty=True),
    Column("input_mean", NUMBER, "c, mean of the noise's input", may_be_empty=True),
    Column("input_var", NUMBER, "v, variance of the noise's input", may_be_empty=True),
    Column("input_corr", NUMBER, "rho, mean correlation of the inputs that a weight sums up", may_be_empty=True),
    Column("fan_in", WHOLE, "d, inputs of each unit of the weight layer before BN", may_be_empty=True),
    Column("cos2", NUMBER, "squared cosine between a unit's weights and the vector of ones, mean over units",
           may_be_empty=True),
    Column("d_cos2", NUMBER, "`fan_in * cos2`", may_be_empty=True),
    Column("moving_var_adjusted", NUMBER, "`moving_var` after BN adjustment", may_be_empty=True),
    Column("test_var_adjusted", NUMBER, "`test_var` after BN adjustment", may_be_empty=True),
    Column("shift_ratio_adjusted", NUMBER, "`shift_ratio` after BN adjustment; 1 when it worked",
           may_be_empty=True),
    # epochs.csv; its errors, empty unless `recipe.track_modes=true`, are those of members.csv after that epoch
    Column("epoch", WHOLE, "epochs finished, from 1"),
    Column("learning_rate", NUMBER, "at the epoch's last step"),
    Column("train_loss", NUMBER, "mean training loss of the epoch's steps; empty once it left the finite numbers",
           "nat", may_be_empty=True),
    # flips.csv
    Column("lost", NUMBER, "training images that the member gets right in train mode and wrong in eval mode", "%"),
    Column("won", NUMBER, "those of the opposite", "%"),
    Column("sample", WHOLE, "number of a lost image in the training set, from 0"),
    Column("label", WHOLE, "its class"),
    Column("eval_mode_class", WHOLE, "the class that the member sees in it in eval mode"),
    Column("logits_train_mode", TEXT, "the member's outputs for it in train mode, one for each class"),
    Column("logits_eval_mode", TEXT, "the same in eval mode"),
    Column("image", TEXT, "the image as PNG in base64; empty for data that are no images", may_be_empty=True),
    # modes.csv
    Column("number", WHOLE, "number of the statement, from 1"),
    Column("topic", TEXT, "what the statement is about"),
    Column("experiment", TEXT, "the function that tested it"),
    Column("statement", TEXT, "the statement itself"),
    Column("verdict", TEXT, "`needs care`: true, but misleading; `failed`: the experiment raised an error",
           words=VERDICTS),
    Column("explanation", TEXT, "one line that says why"),
    Column("evidence", TEXT, "what was measured, to be read", may_be_empty=True),
    Column("measured", TEXT, "the same by name, to be drawn, as JSON"),
    Column("torch", TEXT, "version that was asked"),
)
COLUMNS = {column.name: column for column in _COLUMNS}

_MEMBERS = (
    "status", "steps", "seconds", "seconds_measuring",
    "train_error_train_mode", "train_error_eval_mode", "train_error_adjusted", "validation_error",
    "test_error", "test_error_adjusted",
    "train_loss_eval_mode", "train_loss_adjusted", "test_loss", "test_loss_adjusted",
    *(f"{part}_{what}_{cell}" for part in ("test", "train") for what in ("error", "loss") for cell in _CELLS),
    *(f"test_error_{where}_{key}" for where in ("coarse", "twin") for key in _COARSE),
    "cut_channels",
)
_LAYERS = (
    "layer_index", "layer_name", "channels",
    "moving_var", "train_var", "test_var", "shift_ratio", "shift_magnitude",
    "mean_shift", "log_ratio_rms", "worst_channel_ratio",
    "shift_ratio_population", "mean_shift_population", "shift_ratio_predicted", "mean_shift_predicted",
    "finite_batch_factor", "staleness_factor",
    "shift_ratio_frozen", "mean_shift_frozen", "mean_shift_induced", "mean_shift_induced_twin",
    "local_ratio", "local_ratio_exact", "ratio_paper",
    "input_mean", "input_var", "input_corr", "fan_in", "cos2", "d_cos2",
    "moving_var_adjusted", "test_var_adjusted", "shift_ratio_adjusted",
)
_EPOCHS = (
    "epoch", "learning_rate", "train_loss",
    "train_error_train_mode", "train_error_eval_mode", "test_error",
)
_FLIPS = (
    "lost", "won",
    "sample", "label", "eval_mode_class", "logits_train_mode", "logits_eval_mode", "image",
)
_MODES = (
    "number", "topic", "experiment", "statement",
    "verdict", "explanation", "evidence", "measured",
    "torch",
)
TABLES = {
    "members.csv": Table(
        "member",
        (*IDENTITY, *RECIPE, *_MEMBERS, "job", "reason"),
        (*IDENTITY, "status", "test_error", "test_error_adjusted"),
    ),
    "layers.csv": Table(
        "member and BN layer",
        (*IDENTITY, *RECIPE, *_LAYERS, "job"),
        (
            *IDENTITY, "layer_index",
            "shift_ratio", "local_ratio", "local_ratio_exact", "ratio_paper", "input_corr", "d_cos2",
        ),
    ),
    "epochs.csv": Table(
        "member and epoch",
        (*IDENTITY, *RECIPE, *_EPOCHS, "job"),
        (*IDENTITY, *_EPOCHS),
    ),
    "flips.csv": Table(
        "training image kept (`measure.flips`) because its member loses it in eval mode",
        (*IDENTITY, *RECIPE, *_FLIPS, "job"),
        (*IDENTITY, *_FLIPS),
    ),
    "modes.csv": Table("statement about train() and eval()", _MODES, _MODES),
}
# fmt: on


def kind_of(name: str) -> str:
    """Return the kind of a column; a column that the schema does not know holds text."""
    return COLUMNS[name].kind if name in COLUMNS else TEXT


def typed_row(row: Mapping[str, str]) -> dict[str, Cell]:
    """Return the cells of a row that are not empty, each as its column's kind: str, int or float.

    Raises ValueError for a cell that is not of its kind.
    """
    types = {TEXT: str, WHOLE: int, NUMBER: float}
    return {name: types[kind_of(name)](text) for name, text in row.items() if text != ""}


# --- documentation


def markdown_table(table: str) -> str:
    """Return the columns of a table, such as members.csv, in order, as a table in Markdown.

    The identity and recipe columns, with which every table of members begins, are listed for members.csv alone.
    """
    names = TABLES[table].columns
    shared = (*IDENTITY, *RECIPE)
    if table != "members.csv":
        names = tuple(name for name in names if name not in shared and name != "job")
    lines = ["| column | kind | unit | may be empty | meaning |", "|---|---|---|---|---|"]
    for column in map(COLUMNS.__getitem__, names):
        empty = "yes" if column.may_be_empty else ""
        lines.append(f"| `{column.name}` | {column.kind} | {column.unit} | {empty} | {column.meaning} |")
    return "\n".join(lines)


def fill_tables(text: str) -> str:
    """Return a Markdown text with the columns of each table between its two marks, such as

        <!-- columns of members.csv -->
        <!-- end of columns -->

    whatever stood there before. Raises KeyError for a table that is none.
    """
    marked = re.compile(r"(<!-- columns of (\S+) -->\n).*?(<!-- end of columns -->)", re.DOTALL)
    return marked.sub(lambda found: f"{found[1]}{markdown_table(found[2])}\n{found[3]}", text)


def main(arguments: list[str] | None = None) -> int:
    """Print every table, or fill the tables of files; return the exit status."""
    return exit_status("schema", lambda: show_or_fill(arguments))


def show_or_fill(arguments: list[str] | None) -> int:
    """Print every table, or fill the tables of the files that the arguments name; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.schema", description="The columns of the tables."
    )
    parser.add_argument("files", nargs="*", type=Path, help="Markdown files to fill; without any, print")
    files = parser.parse_args(arguments).files
    for file in files:
        file.write_text(fill_tables(file.read_text(encoding="utf-8")), encoding="utf-8")
    if not files:
        parts = (
            f"{name}: a row per {table.rows}\n\n{markdown_table(name)}" for name, table in TABLES.items()
        )
        print("\n\n".join(parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
