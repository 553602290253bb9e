"""Comparing the moments of two layers, with jackknife intervals.

A layer's variances are compared as the ratio of their channel means, its means as the root mean square offset over
channels.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit
from torch import Tensor

from analysis.audit.moments import GroupedMoments


class Ratio(NamedTuple):
    """A ratio with the standard error of its logarithm (nan if it has none) and the groups behind it."""

    value: float
    log_error: float
    groups: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The ends of its confidence interval, from Student's t on the logarithm."""
        if not (self.value > 0 and math.isfinite(self.log_error)):
            return math.nan, math.nan
        factor = math.exp(min(700.0, _quantile(self.groups, level) * self.log_error))
        return self.value / factor, self.value * factor

    def with_error(self, log_error: float) -> "Ratio":
        """The same ratio with an independent error added."""
        return self._replace(log_error=math.hypot(self.log_error, log_error))


def ratio(above: GroupedMoments, below: GroupedMoments | float) -> Ratio:
    """The ratio of two layers' variances, its error by the delete-a-group jackknife.

    Var(log r) = (G - 1) / G sum_g (log r_g - mean log r_g)^2 over the G groups, r_g without group g. Streams of
    the same samples are paired by their groups. `below` may be a fixed number.
    """
    value, left_out = above.layer_variance, above.layer_variances_without_each_group()
    if isinstance(below, GroupedMoments):
        value, left_out = value / below.layer_variance, left_out / below.layer_variances_without_each_group()
    else:
        value, left_out = value / below, left_out / below
    logs = np.log(left_out[left_out > 0])  # without groups that have none, whose value is nan
    groups = len(logs)
    if groups < 2:
        return Ratio(value, math.nan, groups)
    logs -= logs.sum() / groups
    return Ratio(value, math.sqrt((groups - 1) / groups * float(logs @ logs)), groups)


def independent_ratio(above: GroupedMoments, below: GroupedMoments) -> Ratio:
    """The ratio of two layers' variances over different samples: their errors add."""
    first, second = ratio(above, 1.0), ratio(below, 1.0)
    error = math.hypot(first.log_error, second.log_error)
    return Ratio(first.value / second.value, error, min(first.groups, second.groups))


class Offset(NamedTuple):
    """A root mean square over channels, with that of the channels' standard errors and the groups behind it.

    Its interval is value +- t * error, by the triangle inequality: the estimate lies as far from the truth as the
    root mean square of the errors, and that of Gaussian errors, however they are correlated, exceeds t times its
    expectation at most as often as a single one does (Szekely & Bakirov 2003, for levels above 0.785).
    """

    value: float
    error: float
    groups: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The ends of its confidence interval, with at least that level."""
        if not math.isfinite(self.error):
            return math.nan, math.nan
        width = _quantile(self.groups, level) * self.error
        return max(0.0, self.value - width), self.value + width

    def with_error(self, error: float) -> "Offset":
        """The same offset with an independent error added."""
        return self._replace(error=math.hypot(self.error, error))


def offset(above: GroupedMoments, below: GroupedMoments | Tensor, scale: Tensor) -> Offset:
    """How far two layers' means are apart, in units of the square root of `scale` [channels].

    `below` may be fixed means [channels]. Streams of the same samples are paired by their groups.
    """
    is_paired = isinstance(below, GroupedMoments)
    below_mean = (below.mean if is_paired else below.cpu().double()).numpy()
    apart = above.mean.numpy() - below_mean  # [channels]
    left_out = above.means_without_each_group()  # [groups, channels]
    left_out = left_out - (below.means_without_each_group() if is_paired else below_mean)
    known = left_out[np.isfinite(left_out[:, 0])]  # in groups without samples no channel has a mean
    groups, weights = len(known), 1 / (len(apart) * scale.cpu().double().numpy())
    error = math.nan
    if groups > 1:
        known -= known.sum(0) / groups
        error = math.sqrt((groups - 1) / groups * float(np.einsum("gc,gc->c", known, known) @ weights))
    return Offset(math.sqrt(apart**2 @ weights), error, groups)


def independent_offset(above: GroupedMoments, below: GroupedMoments, scale: Tensor) -> Offset:
    """How far the means of two layers over different samples are apart: their errors add."""
    first, second = offset(above, below.mean, scale), offset(below, below.mean, scale)
    return Offset(first.value, math.hypot(first.error, second.error), min(first.groups, second.groups))


@functools.cache
def _quantile(groups: int, level: float) -> float:
    """Student's t that a two-sided interval of this level needs, for a jackknife of so many groups."""
    return float(stdtrit(groups - 1, (1 + level) / 2))
