"""Callbacks that audit a network while it trains, one file a trainer; the training goes on as without them."""

import itertools
from collections.abc import Iterable
from typing import Any

import pandas as pd
from torch import nn

from ..preserve import unchanged

BATCHES = 16  # of the training data, that an epoch's audit looks at


def first_batches(model: nn.Module, loader: Iterable[Any], count: int) -> list[Any]:
    """Return the first batches of a loader; random generators are put back: training does not notice."""
    with unchanged(model, loader):
        return list(itertools.islice(loader, count))


def numbers(table: pd.DataFrame) -> dict[str, float]:
    """Return what is logged of an audit's table, by name: the ratio of every layer, and the largest of all.

    variance_shift/LAYER            shift_ratio
    variance_shift/largest          largest shift_magnitude, the ratio or its inverse
    variance_shift/largest_mean     largest mean_shift, in stored standard deviations
    variance_shift/layers_off       how many layers have an alarm

    What was not measured is left out.
    """
    values = {
        **{
            f"variance_shift/{name}": ratio
            for name, ratio in zip(table["layer_name"], table["shift_ratio"], strict=True)
        },
        "variance_shift/largest": table["shift_magnitude"].max(),
        "variance_shift/largest_mean": table["mean_shift"].max(),
        "variance_shift/layers_off": (table["alarm"] != "").sum(),
    }
    return {name: float(value) for name, value in values.items() if pd.notna(value)}
