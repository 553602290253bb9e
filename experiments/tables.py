"""The two tables: their columns, and how they are written."""

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

IDENTITY = ("data", "model", "width", "depth", "norm", "placement", "noise", "strength", "noise_variance", "seed")
MEMBER_COLUMNS = (
    *IDENTITY,
    "lr", "weight_decay", "batch_size",
    "status", "steps", "seconds",
    "train_error_train_mode", "train_error_eval_mode",
    "test_error", "test_error_adjusted", "test_loss", "test_loss_adjusted",
    "job", "reason",
)  # fmt: skip
LAYER_COLUMNS = (
    *IDENTITY,
    "lr", "weight_decay", "batch_size",
    "layer_index", "layer_name", "channels",
    "moving_var", "train_var", "test_var", "shift_ratio", "shift_magnitude",
    "local_ratio", "local_ratio_exact", "ratio_paper",
    "input_mean", "input_var", "input_corr", "fan_in", "cos2", "d_cos2",
    "moving_var_adjusted", "test_var_adjusted", "shift_ratio_adjusted",
    "job",
)  # fmt: skip


def write_table(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows as CSV, all or nothing: the file appears complete or not at all.

    Numbers are written with the digits that give the same double back; None and nan as nothing.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns), restval="")
        writer.writeheader()
        for row in rows:
            # nan is the only value that differs from itself.
            writer.writerow({key: "" if value is None or value != value else value for key, value in row.items()})
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_table(path: Path) -> list[dict[str, str]]:
    """Read the rows of a table as text."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
