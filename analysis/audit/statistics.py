"""Streaming moments in groups of samples, and jackknife intervals for ratios of variances made of them."""

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

GROUPS = 20


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

    def update(self, x: Tensor) -> None:
        """Add a batch x [samples, channels, *positions]."""
        mean, squares, positions = _per_sample(x)  # [samples, channels]
        samples, channels = mean.shape
        if not self.seen:
            self._count = mean.new_zeros(GROUPS, 1)
            self._mean = self._squares = mean.new_zeros(GROUPS, channels)
        group = (self.seen + torch.arange(samples, device=x.device)) % GROUPS
        members = mean.new_zeros(GROUPS, samples)
        members[group, torch.arange(samples, device=x.device)] = 1
        count = members.sum(1, keepdim=True)  # samples in each group
        batch_mean = members @ mean / count.clamp(min=1)
        spread = members @ (mean - members.T @ batch_mean).square()
        self._merge(count * positions, batch_mean, members @ squares + positions * spread)
        self.seen += samples
        self.batches += 1

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
        return self._pooled(self._everything)[0].squeeze(0)

    @property
    def variance(self) -> Tensor:
        """Unbiased variance per channel [channels]."""
        return self._pooled(self._everything)[1].squeeze(0)

    @property
    def layer_mean(self) -> float:
        """Channel mean of the means."""
        return float(self.mean.mean())

    @property
    def layer_variance(self) -> float:
        """Channel mean of the variances: a layer's value."""
        return float(self.variance.mean())

    def without_each_group(self) -> tuple[np.ndarray, np.ndarray]:
        """The layer's mean and variance with each group left out in turn, [groups]; nan for an empty group."""
        keep = self._everything - torch.eye(GROUPS, dtype=torch.double, device=self._count.device)
        mean, variance = self._pooled(keep)
        empty = (self._count[:, 0] == 0).cpu().numpy()
        layer_mean, layer_variance = mean.mean(1).cpu().numpy(), variance.mean(1).cpu().numpy()
        return np.where(empty, np.nan, layer_mean), np.where(empty, np.nan, layer_variance)

    @property
    def _everything(self) -> Tensor:
        return torch.ones(1, GROUPS, dtype=torch.double, device=self._count.device)

    def _pooled(self, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and unbiased variance [choices, channels] of the groups that `keep` [choices, groups] has as 1."""
        total = (keep @ self._count).clamp(min=2)
        mean = keep @ (self._count * self._mean) / total
        # The spread of group means is taken around the overall mean first, which keeps the digits.
        centre = (self._count * self._mean).sum(0) / self._count.sum().clamp(min=1)
        offset = self._mean - centre
        between = keep @ (self._count * offset.square()) - total * (mean - centre).square()
        return mean, (keep @ self._squares + between) / (total - 1)


def _per_sample(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and centred sum of squares over the positions of each sample, and their number."""
    x = x.detach()
    x = x if x.dtype == torch.double else x.float()
    if x.dim() == 2:
        return x.double(), torch.zeros_like(x, dtype=torch.double), 1
    positions = tuple(range(2, x.dim()))
    mean = x.mean(positions, keepdim=True)
    squares = torch.linalg.vector_norm(x - mean, dim=positions).double().square()  # faster than torch.var
    return mean.flatten(1).double(), squares, math.prod(x.shape[2:])


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
    value, left_out = above.layer_variance, above.without_each_group()[1]
    if isinstance(below, GroupedMoments):
        value, left_out = value / below.layer_variance, left_out / below.without_each_group()[1]
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
