"""The shift channel by channel: one channel that is off hardly moves a layer's value, and is found here.

Of every channel the log ratio of two variances, eps added to both, and the difference of two means are
measured, with jackknife errors. Channels are told to be off by the largest: each is tested at the layer's level
over their number. An error below the median of the channels' counts as that, for those of rare events are too
small by chance.
"""

import math
from typing import NamedTuple

import numpy as np
from torch import Tensor

from .moments import GroupedMoments, quantile
from .norms import Norm

TOLERANCE = math.log(1.25)  # a channel's variance off by less is no alarm even where it is certain
MEAN_TOLERANCE = 0.25  # nor is its mean off by less, in standard deviations
SHOWN = 3  # channels that are named
FAINT = 0.01  # of eps: with a stored variance below, BN multiplies by 1 / sqrt(eps) and nothing else
FEWEST = 8  # channels that a stored order can be told of


class Channels(NamedTuple):
    """What every channel [channels] differs by: the log of its variances' ratio, and its means.

    Means are in standard deviations. `log_error`, `error`: their standard errors; `groups`: of the jackknife.
    """

    log_ratio: np.ndarray
    log_error: np.ndarray
    offset: np.ndarray
    error: np.ndarray
    groups: int

    def off(self, level: float, excused: float = 1.0) -> np.ndarray:
        """Which channels [channels] are off beyond the tolerance and beyond doubt, all together at `level`.

        `excused`: a factor by which stored variances may be too large.
        """
        if self.groups < 2:
            return np.zeros(len(self.offset), dtype=bool)
        needed = quantile(self.groups, 1 - (1 - level) / (2 * len(self.offset)))
        excuse = np.where(self.log_ratio < 0, np.minimum(math.log(excused), -self.log_ratio), 0)
        variance = np.abs(self.log_ratio + excuse) > np.maximum(
            TOLERANCE, needed * _at_least_median(self.log_error)
        )
        mean = np.abs(self.offset) > np.maximum(MEAN_TOLERANCE, needed * _at_least_median(self.error))
        return variance | mean

    @property
    def log_ratio_rms(self) -> float:
        """The root mean square of the log ratios, less what the errors alone would make of it."""
        if self.groups < 2:
            return math.nan
        return math.sqrt(max(0.0, float(np.mean(self.log_ratio**2 - self.log_error**2))))


def _at_least_median(errors: np.ndarray) -> np.ndarray:
    some = errors[errors > 0]
    return np.maximum(errors, np.median(some)) if len(some) else errors


def between(above: GroupedMoments, below: GroupedMoments, norm: Norm, is_paired: bool) -> Channels:
    """How the channels of two inputs of a layer differ; `is_paired`: they are of the same samples."""
    scale = np.sqrt(_stored(norm)[1] + norm.eps) if norm.running_var is not None else _spread(below, norm.eps)
    first, second = _Parts.of(above, norm.eps), _Parts.of(below, norm.eps)
    if is_paired:
        return first.less(second).channels(scale)
    one, other = first.channels(scale), second.channels(scale)
    return Channels(
        one.log_ratio - other.log_ratio,
        np.hypot(one.log_error, other.log_error),
        one.offset - other.offset,
        np.hypot(one.error, other.error),
        min(one.groups, other.groups),
    )


def from_stored(above: GroupedMoments, norm: Norm, weights: float) -> Channels:
    """How the channels of an input differ from what the layer stored.

    `weights`: how much less certain than the input's are the moments that were stored, as a ratio of variances.
    """
    mean, variance = _stored(norm)
    scale = np.sqrt(variance + norm.eps)
    found = _Parts.of(above, norm.eps).channels(scale)
    times = math.sqrt(1 + weights)
    log_ratio = found.log_ratio - np.log(variance + norm.eps)
    moves = above.variance.numpy() > 0  # of a channel that does not, no ratio tells anything
    return Channels(
        np.where(moves, log_ratio, 0.0),
        np.where(moves, found.log_error * times, 0.0),
        found.offset - mean / scale,
        found.error * times,
        found.groups,
    )


class _Parts(NamedTuple):
    """Log variances and means of all samples and without each group, [1 + groups, channels]."""

    logs: np.ndarray
    means: np.ndarray

    @classmethod
    def of(cls, moments: GroupedMoments, eps: float) -> "_Parts":
        variances = np.vstack([moments.variance.numpy(), moments.variances_without_each_group()])
        means = np.vstack([moments.mean.numpy(), moments.means_without_each_group()])
        return cls(np.log(variances + eps), means)

    def less(self, other: "_Parts") -> "_Parts":
        return _Parts(self.logs - other.logs, self.means - other.means)

    def channels(self, scale: np.ndarray) -> Channels:
        (log_ratio, log_error, groups), (mean, error, _) = map(_jackknife, self)
        return Channels(log_ratio, log_error, mean / scale, error / scale, groups)


def _jackknife(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """The value [channels], its standard error, and the groups behind it."""
    left_out = values[1:][np.isfinite(values[1:, 0])]
    groups = len(left_out)
    if groups < 2:
        return values[0], np.full_like(values[0], math.nan), groups
    left_out = left_out - left_out.mean(0)
    return values[0], np.sqrt((groups - 1) / groups * np.einsum("gc,gc->c", left_out, left_out)), groups


def _stored(norm: Norm) -> tuple[np.ndarray, np.ndarray]:
    mean, variance = norm.running_mean, norm.running_var
    assert isinstance(mean, Tensor)
    assert isinstance(variance, Tensor)
    return mean.detach().cpu().double().numpy(), variance.detach().cpu().double().numpy()


def _spread(moments: GroupedMoments, eps: float) -> np.ndarray:
    return np.sqrt(moments.variance.numpy() + eps)


def is_permuted(above: GroupedMoments, norm: Norm, found: Channels, off: np.ndarray) -> bool:
    """Whether what is stored fits the input but for the order of the channels.

    Sorted, the stored variances, or the stored means, are those of the input as closely as their errors allow,
    and much closer than in their order.
    """
    if len(off) < FEWEST or off.sum() < 3:
        return False
    mean, variance = _stored(norm)
    scale = math.sqrt(float(np.mean(variance + norm.eps)))
    pairs = (
        (np.log(variance + norm.eps), np.log(above.variance.numpy() + norm.eps), found.log_error),
        (mean / scale, above.mean.numpy() / scale, found.error * np.sqrt(variance + norm.eps) / scale),
    )
    fits = [_fits_sorted(*pair) for pair in pairs]
    return any(fits) and all(fit is not False for fit in fits)


def _fits_sorted(stored: np.ndarray, found: np.ndarray, error: np.ndarray) -> bool | None:
    """None where the order is right already."""
    floor = _rms(error)
    in_order, in_size = _rms(stored - found), _rms(np.sort(stored) - np.sort(found))
    if in_order < 3 * floor:
        return None
    return in_size < 2 * floor and in_size < in_order / 4


def _rms(values: np.ndarray) -> float:
    return math.sqrt(float(np.mean(np.square(values))))


def faint(norm: Norm) -> list[int]:
    """Channels whose stored variance is far below eps, as of a channel that was constant: it must not move."""
    return [] if norm.running_var is None else np.flatnonzero(_stored(norm)[1] < FAINT * norm.eps).tolist()


def in_words(cause: str, found: Channels, off: np.ndarray) -> str:
    """Which channels are off, and by how much."""
    if not off.any():
        return ""
    # In units of what is tolerated, the variance or the mean is what is off.
    by_variance, by_mean = np.abs(found.log_ratio) / TOLERANCE, np.abs(found.offset) / MEAN_TOLERANCE
    size = np.where(off, np.maximum(by_variance, by_mean), 0.0)
    worst = np.argsort(-size, kind="stable")[: min(SHOWN, int(off.sum()))]
    named = ", ".join(map(str, worst)) + (", ..." if off.sum() > SHOWN else "")
    count, is_one = f"{off.sum()} of {len(off)} channels", int(off.sum()) == 1
    has_variance = off & (by_variance >= by_mean)
    if 2 * has_variance.sum() >= off.sum():
        ratio = math.exp(float(np.median(found.log_ratio[has_variance])))
        if cause == "lag":
            return (
                f"{count} store{'s' * is_one} x{1 / ratio:.3g} of the variance that train mode has ({named})"
            )
        what = {"noise": "all noise off makes", "data": "evaluation data have"}[cause]
        return f"{what} x{ratio:.3g} of the variance in {count} ({named})"
    offset = float(np.median(np.abs(found.offset[off])))
    whose = {"lag": "stored", "noise": "noisy", "data": "evaluation data's"}[cause]
    return f"the {whose} mean of {count} is {offset:.2g} standard deviations off ({named})"
