"""The tables: their columns, and how they are written."""

import csv
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from experiments.study.files import all_or_nothing

COPIED_AT_ONCE = 1 << 20  # characters

# fmt: off
IDENTITY = (
    "data", "model", "width", "depth", "norm", "placement", "noise", "strength", "noise_variance", "seed",
)
MEMBER_COLUMNS = (
    *IDENTITY,
    "lr", "weight_decay", "batch_size", "train_samples",
    "status", "steps", "seconds", "seconds_measuring",
    "train_error_train_mode", "train_error_eval_mode", "validation_error",
    "test_error", "test_error_adjusted", "test_error_transplanted", "test_loss", "test_loss_adjusted",
    "job", "reason",
)
LAYER_COLUMNS = (
    *IDENTITY,
    "lr", "weight_decay", "batch_size", "train_samples",
    "layer_index", "layer_name", "channels",
    "moving_var", "train_var", "test_var", "shift_ratio", "shift_magnitude",
    "local_ratio", "local_ratio_exact", "ratio_paper",
    "input_mean", "input_var", "input_corr", "fan_in", "cos2", "d_cos2",
    "moving_var_adjusted", "test_var_adjusted", "shift_ratio_adjusted",
    "job",
)
EPOCH_COLUMNS = (
    *IDENTITY,
    "lr", "weight_decay", "batch_size", "train_samples",
    "epoch", "learning_rate", "train_loss",
    "train_error_train_mode", "train_error_eval_mode", "test_error",
    "job",
)
FLIP_COLUMNS = (
    *IDENTITY,
    "lr", "weight_decay", "batch_size", "train_samples",
    "lost", "won",
    "sample", "label", "eval_mode_class", "logits_train_mode", "logits_eval_mode", "image",
    "job",
)
MODE_COLUMNS = (
    "number", "topic", "experiment", "statement",
    "verdict", "explanation", "evidence", "measured",
    "torch",
)
# fmt: on
# Of the files of a study, members.csv is written last: where it is, the others are too.
TABLES = {
    "flips.csv": FLIP_COLUMNS,
    "epochs.csv": EPOCH_COLUMNS,
    "layers.csv": LAYER_COLUMNS,
    "members.csv": MEMBER_COLUMNS,
}


def write_table(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows as CSV, all or nothing: the file appears complete or not at all.

    Numbers are written with the digits that give the same double back; None and nan as nothing.
    """
    with all_or_nothing(path, newline="") as file:
        _write_rows(file, list(columns), rows, header=True)


def join_tables(path: Path, columns: Iterable[str], parts: Iterable[Path]) -> None:
    """Write the rows of all tables `parts`, one behind the other, as one table with these columns.

    Tables that have these columns are copied as they are, which takes no memory to speak of.
    """
    names = list(columns)
    with all_or_nothing(path, newline="") as file:
        _write_rows(file, names, [], header=True)
        for part in parts:
            with part.open(newline="", encoding="utf-8") as source:
                if source.readline().rstrip("\r\n") == ",".join(names):
                    shutil.copyfileobj(source, file, COPIED_AT_ONCE)
                    continue
            # Written by a version with other columns: what this one does not have is left out.
            rows = ({name: row.get(name) for name in names} for row in read_table(part))
            _write_rows(file, names, rows, header=False)


def read_table(path: Path) -> list[dict[str, str]]:
    """Read the rows of a table as text."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write_rows(
    file: IO[str], columns: list[str], rows: Iterable[Mapping[str, object]], header: bool
) -> None:
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


def _cell(value: object) -> object:
    # nan is the only value that differs from itself.
    return "" if value is None or value != value else value
