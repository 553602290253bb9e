"""The tables: their columns, and how they are written."""

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

# fmt: off
IDENTITY = (
    "data", "model", "width", "depth", "norm", "placement", "noise", "strength", "noise_variance", "seed",
)
MEMBER_COLUMNS = (
    *IDENTITY,
    "lr", "weight_decay", "batch_size", "train_samples",
    "status", "steps", "seconds", "seconds_measuring",
    "train_error_train_mode", "train_error_eval_mode", "validation_error",
    "test_error", "test_error_adjusted", "test_loss", "test_loss_adjusted",
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
    "lr", "weight_decay", "batch_size",
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


def write_table(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows as CSV, all or nothing: the file appears complete or not at all.

    Numbers are written with the digits that give the same double back; None and nan as nothing.
    """
    # A name of its own, so that what a killed process left behind is written over.
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_table(path: Path) -> list[dict[str, str]]:
    """Read the rows of a table as text."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _cell(value: object) -> object:
    # nan is the only value that differs from itself.
    return "" if value is None or value != value else value
