"""An audit as its command makes it: the table, what was tried, the page, and what is printed of them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from .batches import Forward, Size
from .explain import diagnosis
from .page import write_files
from .repair import FROZEN, Metric, accuracy
from .shown import short_table
from .table import audit
from .tried import try_adjusting

ACCURACY = "Accuracy, per cent"


def print_audit(
    model: nn.Module,
    name: str,
    train: Iterable[Any],
    test: Iterable[Any] | None,
    out: Path,
    *,
    forward: Forward | None = None,
    size: Size | None = None,
    metric: Metric = accuracy,
    metric_name: str = ACCURACY,
    frozen: str = FROZEN[0],
) -> None:
    """Audit `model`, try adjusting where there is something to adjust, print, and write the page to `out`.

    `name` is what the page calls the model. The other arguments are those of `audit` and `try_adjusting`.
    """
    table = audit(model, train, test, forward=forward, metric=None, size=size)
    trial = None
    if (table["moving_var"].notna() & (table["calls"] > 0)).any():  # there is something to adjust
        trial = table.attrs["tried"] = try_adjusting(
            model, train, test, metric, forward=forward, size=size, frozen=frozen, modes=("train", "eval")
        )
    comparison = None if trial is None else trial.scores
    written = write_files(table, out, name, comparison, metric_name)
    with pd.option_context("display.width", 200, "display.max_colwidth", 60):
        print(short_table(table).to_string(index=False), end="\n\n")
    print(diagnosis(table))
    if comparison is not None:
        print(f"\n{metric_name}\n" + comparison.to_string(index=False, float_format="%.2f"))
    print("\nWritten: " + ", ".join(map(str, written)))
