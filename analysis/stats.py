"""Estimates over seeds: means, differences, their intervals and tests, and the correction for many of them.

A seed is the unit of repetition: what was averaged before (layers, widths, strengths) is averaged within the
seed first, so that an interval speaks of new seeds (not of new test images). Few seeds call for Student's t:
with five of them, 1.96 standard errors would cover 88 %, not 95 %, and a percentile bootstrap 84 %. So
differences of members that share a seed are paired and get Student's t, and those of members that do not get
Welch's, stratum by stratum; `tests/analysis/test_stats_coverage.py` measures what every interval here covers,
and what the bootstrap would. Differences of alike members are symmetric, for which Student's t holds whatever
their tails; a mean of five strongly skewed numbers (log-normal, sigma 1) would be covered 82 % of the time
only.

Where most seeds give the very same number, as an adjustment does that changes no prediction, their spread says
nothing, and t would be certain. Such numbers also get the exact sign-flip test, see `TiedEstimate`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import optimize
from scipy import stats as scipy_stats
from scipy.special import stdtr, stdtrit

LEVEL = 0.95
POWER = 0.8


class Interval(NamedTuple):
    """A mean, the ends of its 95 % interval (NaN from a single value), and the number of values."""

    mean: float
    low: float
    high: float
    n: int

    def less(self, value: float) -> "Interval":
        """The interval of what was estimated less a fixed number."""
        return Interval(self.mean - value, self.low - value, self.high - value, self.n)

    def with_half_width(self, digits: int, sign: str = "") -> str:
        """For example '0.43 ± 0.02', half the interval's width; the mean alone where one value gives no interval.

        `sign` is "+" for a mean that always shows its sign.
        """
        half = self.high - self.mean
        return f"{self.mean:{sign}.{digits}f}" + (f" ± {half:.{digits}f}" if half == half else "")

    def __str__(self) -> str:
        """For example '0.431 [0.420, 0.442]'; without the brackets where one value gives no interval."""
        return f"{self.mean:.3f}" + ("" if np.isnan(self.low) else f" [{self.low:.3f}, {self.high:.3f}]")


@dataclass(frozen=True)
class Estimate:
    """An estimated number that is Student's t distributed around the true one.

    Attributes:
        value: the estimate.
        error: its standard error; NaN where one seed gives none.
        freedom: degrees of freedom of that error.
        n: the seeds behind it; where two groups have their own, the smaller number.
    """

    value: float
    error: float
    freedom: float
    n: int

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The ends of the two-sided interval that covers the true value with this probability."""
        half = stdtrit(self.freedom, (1 + level) / 2) * self.error if self.freedom > 0 else np.nan
        return float(self.value - half), float(self.value + half)

    def p_above(self, bound: float) -> float:
        """One-sided p-value of 'the true value is at most `bound`': small if it lies above."""
        if self.error == 0:  # all seeds of two groups agree to the bit
            return float(self.value <= bound)
        return float(stdtr(self.freedom, (bound - self.value) / self.error))

    def p_below(self, bound: float) -> float:
        """One-sided p-value of 'the true value is at least `bound`': small if it lies below."""
        return Estimate(-self.value, self.error, self.freedom, self.n).p_above(-bound)

    def detectable(self, significance: float) -> float:
        """The distance from a bound that a study like this finds 4 times in 5, at one-sided `significance`."""
        return self.error * detectable_errors(self.freedom, significance)

    def least_seeds(self, significance: float) -> int:
        """The fewest seeds with which such a test can reach this one-sided significance at all."""
        return 2


@dataclass(frozen=True)
class TiedEstimate(Estimate):
    """A mean of values, one a seed, most of which are the same: tested by exact sign flips as well as by t.

    Of the two the more cautious counts: t alone is certain where all seeds agree, and sign flips alone forget how
    far the few others lie off.
    """

    values: tuple[float, ...] = ()

    @cached_property
    def _flips(self) -> "SignFlips":
        return SignFlips(np.array(self.values))

    def p_above(self, bound: float) -> float:
        """See `Estimate.p_above`."""
        return max(super().p_above(bound), self._flips.p_above(bound))

    def p_below(self, bound: float) -> float:
        """See `Estimate.p_below`."""
        return max(super().p_below(bound), self._flips.p_below(bound))

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """See `Estimate.interval`; without end where there are too few seeds for this level."""
        ends = super().interval(level), self._flips.interval(level)
        return min(low for low, _ in ends), max(high for _, high in ends)

    def detectable(self, significance: float) -> float:
        """See `Estimate.detectable`; infinite where the test can find nothing."""
        return super().detectable(significance) if self.n >= self.least_seeds(significance) else np.inf

    def least_seeds(self, significance: float) -> int:
        """See `Estimate.least_seeds`: n with 2^-n <= significance."""
        return int(np.ceil(-np.log2(significance) - _ROUNDING))


class SignFlips:
    """The exact test that a symmetric distribution has a given centre.

    Under a true value b, differences from b are as likely positive as negative: all 2^n combinations of signs are
    alike. The share of combinations with a mean at least as large as the one found is the p-value, so that at n
    seeds none is below 2^-n. Flipping a set of seeds gives such a mean if and only if the set's own mean is at
    most b (Hartigan 1969). So they are counted, and so the interval is found: its ends are means of sets, infinite
    where n is too small for the level. Of more than 2^14 combinations, so many are drawn.
    """

    def __init__(self, values: np.ndarray):
        n = len(values)
        if n <= _MOST_FLIPS:
            inside = (np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1
        else:
            inside = np.random.default_rng(0).integers(0, 2, (2**_MOST_FLIPS - 1, n))
            inside = inside[inside.any(axis=1)]
        self._means_of_sets = np.sort(inside @ values / inside.sum(axis=1))

    def p_above(self, bound: float) -> float:
        """One-sided p-value of 'the centre is at most `bound`'."""
        means = self._means_of_sets
        return float((1 + np.searchsorted(means, bound + _ROUNDING, side="right")) / (1 + len(means)))

    def p_below(self, bound: float) -> float:
        """One-sided p-value of 'the centre is at least `bound`'."""
        means = self._means_of_sets
        return float((1 + len(means) - np.searchsorted(means, bound - _ROUNDING)) / (1 + len(means)))

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """All centres that the test does not reject on either side."""
        means = self._means_of_sets
        outside = int((1 - level) / 2 * (1 + len(means)) + _ROUNDING)
        return (float(means[outside - 1]), float(means[-outside])) if outside else (-np.inf, np.inf)


@dataclass(frozen=True)
class PermutedEstimate(Estimate):
    """A number that is 0 in the mean when seeds are exchanged: tested against all its exchanges, or many.

    Attributes:
        exchanged: the number for every exchange, the identity among them. Its spread is `error`.
    """

    exchanged: tuple[float, ...] = ()

    def p_above(self, bound: float) -> float:
        """See `Estimate.p_above`; exact for bound 0."""
        return float(np.mean(np.array(self.exchanged) >= self.value - bound - _ROUNDING))

    def p_below(self, bound: float) -> float:
        """See `Estimate.p_below`."""
        return float(np.mean(np.array(self.exchanged) <= self.value - bound + _ROUNDING))

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The number plus and minus what exchanges make of it."""
        low, high = np.quantile(self.exchanged, [(1 - level) / 2, (1 + level) / 2])
        return self.value - float(high), self.value - float(low)

    def least_seeds(self, significance: float) -> int:
        """See `Estimate.least_seeds`: n with 1 / n! <= significance."""
        return next(n for n in range(2, 171) if 1 / math.factorial(n) <= significance)


_MOST_FLIPS = 14
_ROUNDING = 1e-9


def detectable_errors(freedom: float, significance: float) -> float:
    """The minimum detectable effect in standard errors: power 80 % of a one-sided t test (noncentral t)."""
    if not freedom > 0:
        return np.nan
    critical = stdtrit(freedom, 1 - significance)

    def lacking(effect: float) -> float:
        return float(scipy_stats.nct.sf(critical, freedom, effect)) - POWER

    start = critical + stdtrit(freedom, POWER)
    return float(optimize.brentq(lacking, 0.2 * start, 3 * start + 5))  # pyright: ignore[reportArgumentType]


def mean_estimate(values: pd.Series | np.ndarray) -> Estimate:
    """The mean of independent values, one a seed, with Student's t; NaN means missing and is left out."""
    numbers = np.asarray(values, dtype=float)
    numbers = numbers[~np.isnan(numbers)]
    n = len(numbers)
    mean = float(numbers.mean()) if n else np.nan
    return Estimate(mean, float(numbers.std(ddof=1) / np.sqrt(n)) if n > 1 else np.nan, n - 1, n)


def seed_mean(values: pd.Series | np.ndarray) -> Estimate:
    """`mean_estimate` for a number that is tested: exact, a `TiedEstimate`, where most seeds give the same."""
    estimate = mean_estimate(values)
    numbers = np.asarray(values, dtype=float)
    numbers = numbers[~np.isnan(numbers)]
    if estimate.n < 2 or np.unique(numbers.round(9), return_counts=True)[1].max() <= estimate.n / 2:
        return estimate
    return TiedEstimate(estimate.value, estimate.error, estimate.freedom, estimate.n, tuple(numbers.tolist()))


def independent_difference(strata: Iterable[tuple[Sequence[float], Sequence[float]]]) -> Estimate:
    """Mean over strata of mean(first) - mean(second), for groups that share nothing: stratified Welch.

    Args:
        strata: for each stratum (such as a network) the values of both groups, one a seed, two at least.

    Returns:
        The estimate; its squared error is sum of s^2 / n over all groups, divided by the squared number of strata,
        its degrees of freedom are Satterthwaite's.
    """
    pairs = [(np.asarray(first, float), np.asarray(second, float)) for first, second in strata]
    groups = [group for pair in pairs for group in pair]
    n = min(len(group) for group in groups)
    value = float(np.mean([first.mean() - second.mean() for first, second in pairs]))
    if n < 2:
        return Estimate(value, np.nan, 0, n)
    variances = np.array([group.var(ddof=1) / len(group) for group in groups]) / len(pairs) ** 2
    total = variances.sum()
    pieces = (variances**2 / [len(group) - 1 for group in groups]).sum()
    freedom = total**2 / pieces if pieces > 0 else sum(len(group) - 1 for group in groups)
    return Estimate(value, float(np.sqrt(total)), float(freedom), n)


def holm(p_values: Sequence[float], most_true: int | None = None) -> np.ndarray:
    """Holm's adjusted p-values: all those below 5 % together are wrong in at most 5 % of studies.

    Each is the largest, over itself and all smaller ones, of p times the number of hypotheses that can still be
    true; at most 1. That number is that of those not smaller, and `most_true` where logic allows no more
    (Shaffer 1986).
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    can_be_true = np.minimum(np.arange(len(p), 0, -1), most_true or len(p))
    stepped = np.maximum.accumulate(p[order] * can_be_true)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def mean_interval(values: pd.Series | np.ndarray) -> Interval:
    """The mean of independent values and Student's t interval around it.

    Args:
        values: one number per seed; NaN means missing and is left out.

    Returns:
        NaN for the mean of nothing, and for the ends of an interval from fewer than two values.
    """
    estimate = mean_estimate(values)
    return Interval(estimate.value, *estimate.interval(), estimate.n)


def per_seed(table: pd.DataFrame, value: str, by: list[str]) -> pd.Series:
    """Mean of `value` within each group and seed, by [*by, 'seed']; rows where it is empty do not count."""
    return table.dropna(subset=[value]).groupby([*by, "seed"], dropna=False)[value].mean()


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
    columns = pd.DataFrame(intervals, columns=list(Interval._fields), index=keys.index)
    return keys.join(
        columns.astype({"mean": float, "low": float, "high": float, "n": int})
    )  # of no groups, too


def paired_difference(first: pd.Series, second: pd.Series) -> Interval:
    """Interval of the mean of first - second, over the labels (seeds) that both have.

    Members with the same seed share initial weights, batches and noise draws, so their difference varies far
    less than either.
    """
    return mean_interval((first - second).dropna())
