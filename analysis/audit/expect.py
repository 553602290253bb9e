"""A test for a user's own suite: this network does not shift."""

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd
from torch import nn

from .batches import AuditError, Forward
from .explain import diagnosis
from .table import audit


def assert_no_shift(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    max_ratio: float = 1.1,
    max_mean: float = 0.2,
    forward: Forward | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Raise AssertionError, whose message is the diagnosis, if a BN layer shifts by more than is allowed.

    A layer fails where the 95 % interval of its shift lies beyond: few samples make the test lenient, not
    unsteady. One that stores statistics, is used in both modes and could not be measured fails too.

    Args:
        model, batches, forward, seed: see `audit`; the model stays as it is.
        max_ratio: largest `shift_magnitude`, the shift ratio or its inverse, at least 1.
        max_mean: largest `mean_shift`, in stored standard deviations, at least 0.

    Returns:
        The audit's table.

    Raises AuditError for limits that no network could keep, and where `audit` does.
    """
    if not max_ratio >= 1:
        raise AuditError(f"max_ratio={max_ratio}: allowed is 1, no shift at all, or more")
    if not max_mean >= 0:
        raise AuditError(f"max_mean={max_mean}: allowed is 0, no shift at all, or more")
    table = audit(model, batches, forward=forward, seed=seed)
    is_off = (table["shift_magnitude_low"] > max_ratio) | (table["mean_shift_low"] > max_mean)
    has_both = (table["calls"] > 0) & table["test_var"].notna() & table["moving_var"].notna()
    is_unmeasured = has_both & table["shift_ratio_low"].isna()
    if (is_off | is_unmeasured).any():
        named = [_size(row) for _, row in table[is_off].iterrows()]
        named += [f"{name} (not measured)" for name in table.loc[is_unmeasured, "layer_name"]]
        raise AssertionError(
            f"{len(named)} of {len(table)} BN layers shift by more than max_ratio={max_ratio:g} or "
            f"max_mean={max_mean:g} allow: {', '.join(named)}.\n{diagnosis(table)}"
        )
    return table


def _size(row: pd.Series) -> str:
    ratio = f"x{row['shift_ratio']:.3g}" if math.isfinite(row["shift_ratio"]) else "not measured"
    return f"{row['layer_name']} ({ratio}, mean {row['mean_shift']:.2g})"
