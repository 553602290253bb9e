"""Streaming moments in groups of samples, and jackknife intervals made of them.

A layer's variances are compared as the ratio of their channel means, its means as the root mean square offset over
channels.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor
from torch.nn import functional

GROUPS = 20
HELD = 256  # samples that are held before they are added up: one large operation for many small ones


class GroupedMoments:
    """Count, mean and centred sum of squares per channel, in 20 groups of samples; constant memory.

    Sample i of the stream belongs to group i mod 20, so that two streams of the same samples fall into the
    same groups and their ratio is paired. The whole is pooled over all samples and positions, its variance
    unbiased (divided by the count less one), exact for batches of any sizes.
    """

    def __init__(self) -> None:
        self.seen = 0
        self.batches = 0
        self._count = self._mean = self._squares = torch.zeros(0)
        self._held: list[tuple[Tensor, Tensor | None, int]] = []  # samples that are not in these sums yet
        self._waiting = 0  # their number
        self._known: tuple[Tensor, Tensor] | None = None  # what `_summary` found since the last update

    def update(self, x: Tensor) -> None:
        """Add a batch x [samples, channels, *positions]."""
        held = _per_sample(x)
        if self._held and held[2] != self._held[0][2]:
            self._fold()
        self._held.append(held)
        self.seen += len(x)
        self._waiting += len(x)
        self.batches += 1
        self._known = None
        if self._waiting >= HELD:
            self._fold()

    def _fold(self) -> None:
        """Add the samples held to the sums of their groups."""
        means, norms, positions = zip(*self._held, strict=True)
        mean = torch.cat(means)  # [samples, channels]
        first = self.seen - self._waiting
        self._held, self._waiting = [], 0
        if not len(self._count):
            self._count = _precise(mean.new_zeros(GROUPS, 1))
            self._mean = self._squares = _precise(mean.new_zeros(GROUPS, mean.shape[1]))
        reference = mean.mean(0)  # sums of what lies around 0 keep their digits
        folded = _by_group(mean - reference, first)
        count = _by_group(mean.new_ones(len(mean), 1), first).sum(0)  # samples in each group
        group_mean = folded.sum(0) / count.clamp(min=1)
        filled = (
            len(folded) - count
        ) * group_mean.square()  # what the zeros of `_by_group` add to the next line
        spread = positions[0] * ((folded - group_mean).square().sum(0) - filled)
        if positions[0] > 1:
            spread = spread + _by_group(torch.cat(norms).square(), first).sum(0)
        self._merge(
            _precise(count * positions[0]), _precise(group_mean) + _precise(reference), _precise(spread)
        )

    def _merge(self, count: Tensor, mean: Tensor, squares: Tensor) -> None:
        """Add groups by Chan's formula."""
        total = self._count + count
        step = mean - self._mean
        share = count / total.clamp(min=1)
        self._squares = self._squares + squares + step.square() * self._count * share
        self._mean = self._mean + step * share
        self._count = total

    @property
    def mean(self) -> Tensor:
        """Mean per channel [channels]."""
        return self._summary()[0][0]

    @property
    def variance(self) -> Tensor:
        """Unbiased variance per channel [channels]."""
        return self._summary()[1][0]

    @property
    def layer_mean(self) -> float:
        """Channel mean of the means."""
        return float(self.mean.mean())

    @property
    def layer_variance(self) -> float:
        """Channel mean of the variances: a layer's value."""
        return float(self.variance.mean())

    def without_each_group(self) -> tuple[Tensor, Tensor]:
        """Mean and variance per channel with each group left out in turn, [groups, channels].

        nan for a group without samples.
        """
        mean, variance = self._summary()
        return mean[1:], variance[1:]

    def _summary(self) -> tuple[Tensor, Tensor]:
        """Mean and unbiased variance of all groups, then without each one: [1 + groups, channels], on the CPU."""
        if self._known is None:
            if self._held:
                self._fold()
            count, mean, squares = self._count.cpu(), self._mean.cpu(), self._squares.cpu()
            keep = torch.cat([torch.ones(1, GROUPS), 1 - torch.eye(GROUPS)]).double()
            total = (keep @ count).clamp(min=2)
            pooled = keep @ (count * mean) / total
            # The spread of group means is taken around the overall mean first, which keeps the digits.
            apart = mean - pooled[0]
            between = keep @ (count * apart.square()) - total * (pooled - pooled[0]).square()
            variance = (keep @ squares + between) / (total - 1)
            empty = torch.cat([torch.zeros(1, 1, dtype=torch.bool), count == 0])
            self._known = pooled.masked_fill(empty, math.nan), variance.masked_fill(empty, math.nan)
        return self._known


def _per_sample(x: Tensor) -> tuple[Tensor, Tensor | None, int]:
    """Mean and centred norm over the positions of each sample, [samples, channels], and how many there are."""
    x = x.detach()
    x = x if x.dtype == torch.double else x.float()
    positions = math.prod(x.shape[2:])
    if positions == 1:
        return x.flatten(1).clone(), None, 1  # a copy: the network may write into its activations
    axes = tuple(range(2, x.dim()))
    mean = x.mean(axes, keepdim=True)
    return mean.flatten(1), torch.linalg.vector_norm(x - mean, dim=axes), positions  # faster than torch.var


def _by_group(values: Tensor, first: int) -> Tensor:
    """Rows of samples, of which the first has number `first`, filled up with zeros: [rounds, groups, channels]."""
    before = first % GROUPS
    after = -(before + len(values)) % GROUPS
    return functional.pad(values, (0, 0, before, after)).unflatten(0, (-1, GROUPS))


def _precise(values: Tensor) -> Tensor:
    """The same in double precision; on the CPU where the device has none, as Apple's."""
    return (values.cpu() if values.device.type == "mps" else values).double()


class Ratio(NamedTuple):
    """A ratio with the standard error of its logarithm (nan if it has none) and the groups behind it."""

    value: float
    log_error: float
    groups: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The ends of its confidence interval, from Student's t on the logarithm."""
        if not (self.value > 0 and math.isfinite(self.log_error)):
            return math.nan, math.nan
        factor = math.exp(min(700.0, float(stdtrit(self.groups - 1, (1 + level) / 2)) * self.log_error))
        return self.value / factor, self.value * factor

    def with_error(self, log_error: float) -> "Ratio":
        """The same ratio with an independent error added."""
        return self._replace(log_error=math.hypot(self.log_error, log_error))


def ratio(above: GroupedMoments, below: GroupedMoments | float) -> Ratio:
    """The ratio of two layers' variances, its error by the delete-a-group jackknife.

    Var(log r) = (G - 1) / G sum_g (log r_g - mean log r_g)^2 over the G groups, r_g without group g. Streams of
    the same samples are paired by their groups. `below` may be a fixed number.
    """
    value, left_out = above.layer_variance, _layer_variances(above)
    if isinstance(below, GroupedMoments):
        value, left_out = value / below.layer_variance, left_out / _layer_variances(below)
    else:
        value, left_out = value / below, left_out / below
    known = left_out[np.isfinite(left_out) & (left_out > 0)]
    if len(known) < 2:
        return Ratio(value, math.nan, len(known))
    logs = np.log(known)
    return Ratio(value, math.sqrt((len(logs) - 1) * logs.var()), len(logs))


def independent_ratio(above: GroupedMoments, below: GroupedMoments) -> Ratio:
    """The ratio of two layers' variances over different samples: their errors add."""
    first, second = ratio(above, 1.0), ratio(below, 1.0)
    error = math.hypot(first.log_error, second.log_error)
    return Ratio(first.value / second.value, error, min(first.groups, second.groups))


def _layer_variances(moments: GroupedMoments) -> np.ndarray:
    return moments.without_each_group()[1].mean(1).numpy()


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
        width = float(stdtrit(self.groups - 1, (1 + level) / 2)) * self.error
        return max(0.0, self.value - width), self.value + width

    def with_error(self, error: float) -> "Offset":
        """The same offset with an independent error added."""
        return self._replace(error=math.hypot(self.error, error))


def offset(above: GroupedMoments, below: GroupedMoments | Tensor, scale: Tensor) -> Offset:
    """How far two layers' means are apart, in units of the square root of `scale` [channels].

    `below` may be fixed means [channels]. Streams of the same samples are paired by their groups.
    """
    fixed = not isinstance(below, GroupedMoments)
    below_mean, below_without = (below, below) if fixed else (below.mean, below.without_each_group()[0])
    scale = scale.cpu().double()
    apart = above.mean - below_mean.cpu().double()  # [channels]
    left_out = above.without_each_group()[0] - below_without.cpu().double()  # [groups, channels]
    known = left_out[left_out.isfinite().all(1)]
    groups = len(known)
    squared_error = known.var(0, unbiased=False) * (groups - 1) if groups > 1 else apart * math.nan
    return Offset(_rms(apart.square() / scale), _rms(squared_error / scale), groups)


def independent_offset(above: GroupedMoments, below: GroupedMoments, scale: Tensor) -> Offset:
    """How far the means of two layers over different samples are apart: their errors add."""
    first, second = offset(above, below.mean, scale), offset(below, below.mean, scale)
    return Offset(first.value, math.hypot(first.error, second.error), min(first.groups, second.groups))


def _rms(squares: Tensor) -> float:
    return float(squares.mean().sqrt())
