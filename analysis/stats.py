"""Means over seeds and their 95 % intervals.

A seed is the unit of repetition: what was averaged before (layers, widths) is averaged within the seed first,
so that an interval speaks of new seeds. Few seeds call for Student's t: with five of them, 1.96 standard errors
would cover 88 %, not 95 %.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean, the ends of its 95 % interval (NaN from a single value), and the number of values."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """For example '0.431 [0.420, 0.442]'; without the brackets where one value gives no interval."""
        return f"{self.mean:.3f}" + ("" if np.isnan(self.low) else f" [{self.low:.3f}, {self.high:.3f}]")


def mean_interval(values: pd.Series | np.ndarray) -> Interval:
    """The mean of independent values and Student's t interval around it.

    Args:
        values: one number per seed; NaN means missing and is left out.

    Returns:
        NaN for the mean of nothing, and for the ends of an interval from fewer than two values.
    """
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    n = len(known)
    mean = known.mean() if n else np.nan
    half = stdtrit(n - 1, (1 + LEVEL) / 2) * known.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return Interval(float(mean), float(mean - half), float(mean + half), n)


def per_seed(table: pd.DataFrame, value: str, by: list[str]) -> pd.Series:
    """Mean of `value` within each group and seed, by [*by, 'seed']; rows where it is empty do not count."""
    known = table.dropna(subset=[value])
    return known.groupby([*by, "seed"], dropna=False)[value].mean()


def over_seeds(table: pd.DataFrame, value: str, by: list[str]) -> pd.DataFrame:
    """Mean of `value` and its interval over seeds, for each group.

    Args:
        table: rows with the columns `by`, seed and `value`.
        value: the measured column; rows where it is empty do not count.
        by: the columns that name a group, at least one.

    Returns:
        A row per group that has a value, in sorted order: the columns `by`, mean, low, high, n (seeds).
    """
    groups = per_seed(table, value, by).groupby(level=by, dropna=False)
    intervals = [mean_interval(values) for _, values in groups]
    keys = groups.size().index.to_frame(index=False)
    return keys.join(pd.DataFrame(intervals, columns=list(Interval._fields), index=keys.index))


def paired_difference(first: pd.Series, second: pd.Series) -> Interval:
    """Interval of the mean of first - second, over the labels (seeds) that both have.

    Members with the same seed share initial weights, batches and noise draws, so their difference varies far
    less than either.
    """
    return mean_interval((first - second).dropna())
