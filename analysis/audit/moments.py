"""Moments of a BN layer's input: their sums, their stream over batches, and the comparison of two of them.

Sums over the positions of each sample (`Summation`) are added up per channel and in groups of samples
(`GroupedMoments`). Two such streams are compared with jackknife intervals: variances as the ratio of their channel
means (`Ratio`), means as the root mean square offset over channels (`Offset`).
"""

import copy
import functools
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

GROUPS = 20
ROWS = 12 * GROUPS  # samples that are added side by side
MOST_PENDING = 16  # additions to the same row before it is added to its group in double precision
FAR = 100.0  # squared mean over variance beyond which float32 loses more than 1e-5 of the variance
FEW = 32  # positions up to which a product with ones sums them faster than a sum does, on a CPU


class SampleSums(NamedTuple):
    """Sums over the positions of each sample, of x - reference and of its square: [2, samples, channels].

    Of samples with a single position the first alone, [samples, channels]: the rest would be the same again.
    `reference` [channels] is None where it is 0.
    """

    sums: Tensor
    positions: int
    reference: Tensor | None

    def copy(self) -> "SampleSums":
        """The same, for longer than until the next batch."""
        return self._replace(sums=self.sums.clone())

    def far_mean(self) -> Tensor | None:
        """Mean per channel [channels] if the variance around the reference has lost digits (or is nan)."""
        sums = self.sums if self.positions > 1 else torch.stack((self.sums, self.sums.square()))
        mean, square = (sums.sum(1) / (sums.shape[1] * self.positions)).unbind()
        if _has_digits(mean, torch.addcmul(square, mean, mean, value=-1)):
            return None
        return mean if self.reference is None else mean + self.reference


class Summation:
    """Takes the sums of inputs of one shape, around one reference.

    Its buffers are allocated once and written to by every batch: a small layer takes less time than allocation.
    """

    def __init__(self, x: Tensor, reference: Tensor | None):
        self.shape, self.dtype = x.shape, x.dtype
        self._positions = math.prod(x.shape[2:])
        self._reference = reference
        if self._positions == 1:  # x itself is its sum
            return
        self._dimensions = tuple(range(2, x.dim()))
        self._is_few = self._positions <= FEW and x.device.type == "cpu"
        self._ones = x.new_ones(self._positions)
        self._sums = SampleSums(x.new_empty(2, *x.shape[:2]), self._positions, reference)
        self._sum, self._square = self._sums.sums.unbind()  # [samples, channels]
        self._channels = self._sum.T, self._square.T
        self._weights = x.new_full(x.shape[:1], 1 / (len(x) * self._positions))

    def of(self, x: Tensor) -> SampleSums:
        """The sums of x [samples, channels, *positions], valid until the next x; perhaps a view of x."""
        if self._reference is not None:
            x = x - self._reference.to(x).view(-1, *(1 for _ in x.shape[2:]))
        if self._positions == 1:
            return SampleSums(x.flatten(1), 1, self._reference)
        if not x.is_contiguous():  # channels last, where a norm is slow
            torch.sum(x, self._dimensions, out=self._sum)
            torch.sum(x.square(), self._dimensions, out=self._square)
        elif self._is_few:
            x = x.view(-1, self._positions)
            torch.mv(x, self._ones, out=self._sum.view(-1))
            torch.mv(x.square(), self._ones, out=self._square.view(-1))
        else:
            torch.sum(x, self._dimensions, out=self._sum)
            torch.linalg.vector_norm(x, dim=self._dimensions, out=self._square).square_()
        return self._sums

    def moments(self) -> tuple[Tensor, Tensor] | None:
        """Mean and biased variance per channel [channels] of the last x, as BN takes them.

        None where digits of the variance are lost, and for a single position, where torch's BN finds them as fast.
        """
        if self._positions == 1:
            return None
        mean, square = (torch.mv(sums, self._weights) for sums in self._channels)
        variance = torch.addcmul(square, mean, mean, value=-1)
        if not _has_digits(mean, variance):
            return None
        return mean if self._reference is None else mean + self._reference, variance


def _has_digits(mean: Tensor, variance: Tensor) -> bool:
    """Whether a variance found as mean square less squared mean has all digits that matter; not if it is nan."""
    return torch.addcmul(variance, mean, mean, value=-1 / FAR).min().item() >= 0


class GroupedMoments:
    """Count, mean and variance per channel, in 20 groups of samples; constant memory.

    Sample i of the stream belongs to group i mod 20, so that two streams of the same samples fall into the
    same groups and their ratio is paired. The whole is pooled over all samples and positions, its variance
    unbiased (divided by the count less one), exact for batches of any sizes. Sums of a few batches are in the
    precision of the input, around a reference where their mean is far from 0; those of all in double precision.
    """

    def __init__(self) -> None:
        self.samples = 0
        self.batches = 0
        self._is_started = False
        self._reference: Tensor | None = None  # what the sums are taken around, [channels]; None for 0
        self._summation: Summation | None = None  # of inputs as the last one
        # Sums of x and of its square [2, groups, channels], in double precision; and those of the last batches,
        # [2, rows, channels] in the precision of the input: row i belongs to group i mod 20.
        self._sums = torch.zeros(0)
        self._rows = torch.zeros(2, 0, 0)
        self._places: dict[tuple[int, torch.Size], list[Any]] = {}  # see `_make_places`
        self._pending = 0  # additions to `_rows`
        self._positions = 0  # of a sample of the last batch
        # Numbers and samples of each group before a sample had so many positions.
        self._counts_before, self._samples_before = np.zeros((GROUPS, 1)), 0
        self._summary_now: _Summary | None = (
            None  # of `_summary` since the last update; None when out of date
        )

    def update(self, x: Tensor) -> None:
        """Add a batch x [samples, channels, *positions]."""
        self.add(self.sums_of(x))

    def copy(self) -> "GroupedMoments":
        """The same stream, to go on apart from this one."""
        self._empty_rows()
        same = copy.copy(self)
        same._rows, same._places, same._summation = torch.zeros(2, 0, 0), {}, None
        return same

    def batch_moments(self) -> tuple[Tensor, Tensor] | None:
        """Mean and variance of the last batch, where they are to be had; see `Summation.moments`."""
        return self._summation.moments() if self._summation is not None else None

    def sums_of(self, x: Tensor) -> SampleSums:
        """The sums of a batch, as `add` takes them; see `Summation.of`."""
        if x.requires_grad:
            x = x.detach()
        if x.dtype not in (torch.float, torch.double):
            x = x.float()
        if self._pending >= MOST_PENDING:
            self._empty_rows()
            self._follow_the_mean()
        summation = self._summation
        if summation is None or summation.shape != x.shape or summation.dtype != x.dtype:
            summation = self._summation = Summation(x, self._reference)
        sums = summation.of(x)
        if not self._is_started:
            self._is_started = True
            self._reference = sums.far_mean()
            if self._reference is not None:
                self._summation = Summation(x, self._reference)
                return self._summation.of(x)
        return sums

    def add(self, batch: SampleSums) -> None:
        """Add what `sums_of` found of a batch."""
        sums, positions, _ = batch
        samples = sums.shape[-2]
        if positions != self._positions:
            self._counts_before, self._samples_before = self._counts(), self.samples
            self._positions = positions
        places = self._places.get((self.samples % GROUPS, sums.shape)) or self._make_places(sums)
        for rows, part in zip(places, (sums,) if samples <= ROWS else sums.split(ROWS, -2), strict=True):
            if positions > 1:
                rows.add_(part)
            else:
                rows[0].add_(part)
                rows[1].addcmul_(part, part)
        self.samples += samples
        self.batches += 1
        self._pending += len(places)
        self._summary_now = None

    def _make_places(self, sums: Tensor) -> list[Any]:
        """The rows that parts of the next batch are added to: of both sums, or if it has one alone, a pair."""
        samples, channels = sums.shape[-2:]
        start = self.samples % GROUPS
        needed = -(-(start + min(samples, ROWS)) // GROUPS) * GROUPS
        if needed > self._rows.shape[1]:
            self._empty_rows()
            self._rows = sums.new_zeros(2, needed, channels)
            self._places.clear()
        if not self.batches:
            device = "cpu" if sums.device.type == "mps" else sums.device  # Apple's has no double precision
            self._sums = torch.zeros(2, GROUPS, channels, dtype=torch.double, device=device)
        sizes = [min(ROWS, samples - done) for done in range(0, samples, ROWS)]
        places = [self._rows.narrow(1, start, size) for size in sizes]
        self._places[start, sums.shape] = places if sums.dim() == 3 else [rows.unbind() for rows in places]
        return self._places[start, sums.shape]

    def _empty_rows(self) -> None:
        """Add the rows to their groups."""
        if self._pending:
            self._sums = self._sums + self._rows.unflatten(1, (-1, GROUPS)).sum(1).to(self._sums)
            self._rows.zero_()
            self._pending = 0

    def _counts(self) -> np.ndarray:
        """Samples times positions in each group [groups, 1]."""
        groups = np.arange(GROUPS)[:, None]
        before, now = ((n + GROUPS - 1 - groups) // GROUPS for n in (self._samples_before, self.samples))
        return self._counts_before + self._positions * (now - before)

    def _follow_the_mean(self) -> None:
        """Take the sums around the mean if it is far from what they are taken around."""
        counts = torch.as_tensor(self._counts(), device=self._sums.device)  # [groups, 1]
        mean, square = (self._sums.sum(1) / counts.sum()).unbind()
        if (mean.square() > FAR * torch.addcmul(square, mean, mean, value=-1)).any():
            sums, squares = self._sums
            moved = (sums - counts * mean, squares - 2 * mean * sums + counts * mean.square())
            self._sums = torch.stack(moved)
            self._reference = mean if self._reference is None else self._reference + mean
            self._summation = None

    @property
    def mean(self) -> Tensor:
        """Mean per channel [channels], on the CPU."""
        return torch.from_numpy(self._summary().means[0])

    @property
    def variance(self) -> Tensor:
        """Unbiased variance per channel [channels], on the CPU."""
        return torch.from_numpy(self._summary().variance)

    @property
    def layer_mean(self) -> float:
        """Channel mean of the means."""
        return float(self._summary().means[0].mean())

    @property
    def layer_variance(self) -> float:
        """Channel mean of the variances: a layer's value."""
        return float(self._summary().layer_variances[0])

    def means_without_each_group(self) -> np.ndarray:
        """Mean per channel with each group left out in turn, [groups, channels].

        nan for a group without samples, and where no other group has any.
        """
        return self._summary().means[1:]

    def layer_variances_without_each_group(self) -> np.ndarray:
        """The layer's value with each group left out in turn [groups]; nan as above."""
        return self._summary().layer_variances[1:]

    def variances_without_each_group(self) -> np.ndarray:
        """Unbiased variance per channel with each group left out in turn, [groups, channels]; nan as above."""
        self._empty_rows()
        sums, squares = self._sums.cpu().numpy()  # [groups, channels]
        counts = self._counts()
        rest = np.where((counts == 0) | (counts == counts.sum()), math.nan, counts.sum() - counts)
        means = (sums.sum(0) - sums) / np.maximum(rest, 2)
        return np.maximum(squares.sum(0) - squares - rest * means**2, 0) / (np.maximum(rest, 2) - 1)

    @property
    def numbers_a_batch(self) -> float:
        """How many numbers of a channel a batch has on average: its samples times their positions."""
        return float(self._counts().sum()) / max(self.batches, 1)

    def _summary(self) -> "_Summary":
        if self._summary_now is None:
            self._empty_rows()
            sums, squares = self._sums.cpu().numpy()  # [groups, channels]
            counts = self._counts()
            is_empty = np.concatenate([[[False]], (counts == 0) | (counts == counts.sum())])
            counts = counts.sum() - np.concatenate([[[0]], counts])
            counts = np.where(is_empty, math.nan, np.maximum(counts, 2))  # [1 + groups, 1]
            total, square = sums.sum(0), squares.sum(0)
            means = np.concatenate([total[None], total - sums])
            means /= counts
            count, counts = counts[0, 0], counts[:, 0]
            with np.errstate(invalid="ignore"):  # numbers too large, which `measure` tells of
                variance = np.maximum(square - count * means[0] ** 2, 0) / (count - 1)
                left_out = square.sum() - squares.sum(1)  # [groups]
            left_out -= counts[1:] * np.einsum("gc,gc->g", means[1:], means[1:])
            left_out = np.maximum(left_out, 0) / (counts[1:] - 1) / len(total)
            if self._reference is not None:
                means += self._reference.cpu().double().numpy()
            self._summary_now = _Summary(means, variance, np.concatenate([[variance.mean()], left_out]))
        return self._summary_now


class _Summary(NamedTuple):
    """Means [1 + groups, channels] and layer's values [1 + groups], of all groups and without each one in turn.

    And the variance [channels] of all.
    """

    means: np.ndarray
    variance: np.ndarray
    layer_variances: np.ndarray


class Ratio(NamedTuple):
    """A ratio with the standard error of its logarithm (nan if it has none) and the groups behind it."""

    value: float
    log_error: float
    groups: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The ends of its confidence interval, from Student's t on the logarithm."""
        if not (self.value > 0 and math.isfinite(self.log_error)):
            return math.nan, math.nan
        factor = math.exp(min(700.0, quantile(self.groups, level) * self.log_error))
        return self.value / factor, self.value * factor

    def with_error(self, log_error: float) -> "Ratio":
        """The same ratio with an independent error added."""
        return self._replace(log_error=math.hypot(self.log_error, log_error))


def quotient(above: Any, below: Any) -> Any:
    """Above / below, of numbers or arrays; inf or nan where `below` is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(above, below)


def ratio(above: GroupedMoments, below: GroupedMoments | float) -> Ratio:
    """The ratio of two layers' variances, its error by the delete-a-group jackknife.

    Var(log r) = (G - 1) / G sum_g (log r_g - mean log r_g)^2 over the G groups, r_g without group g. Streams of
    the same samples are paired by their groups. `below` may be a fixed number.
    """
    value, left_out = above.layer_variance, above.layer_variances_without_each_group()
    if isinstance(below, GroupedMoments):
        value = quotient(value, below.layer_variance)
        left_out = quotient(left_out, below.layer_variances_without_each_group())
    else:
        value, left_out = quotient(value, below), quotient(left_out, below)
    # Without groups that have none, whose value is nan.
    logs = np.log(left_out[(left_out > 0) & np.isfinite(left_out)])
    groups = len(logs)
    if groups < 2:
        return Ratio(value, math.nan, groups)
    logs -= logs.sum() / groups
    return Ratio(value, math.sqrt((groups - 1) / groups * float(logs @ logs)), groups)


def independent_ratio(above: GroupedMoments, below: GroupedMoments) -> Ratio:
    """The ratio of two layers' variances over different samples: their errors add."""
    first, second = ratio(above, 1.0), ratio(below, 1.0)
    error = math.hypot(first.log_error, second.log_error)
    return Ratio(quotient(first.value, second.value), error, min(first.groups, second.groups))


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
        width = quantile(self.groups, level) * self.error
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
    finite = left_out[np.isfinite(left_out[:, 0])]  # in groups without samples no channel has a mean
    groups, weights = len(finite), 1 / (len(apart) * scale.cpu().double().numpy())
    error = math.nan
    if groups > 1:
        finite -= finite.sum(0) / groups
        error = math.sqrt((groups - 1) / groups * float(np.einsum("gc,gc->c", finite, finite) @ weights))
    return Offset(math.sqrt(apart**2 @ weights), error, groups)


def independent_offset(above: GroupedMoments, below: GroupedMoments, scale: Tensor) -> Offset:
    """How far the means of two layers over different samples are apart: their errors add."""
    first, second = offset(above, below.mean, scale), offset(below, below.mean, scale)
    return Offset(first.value, math.hypot(first.error, second.error), min(first.groups, second.groups))


@functools.cache
def quantile(groups: int, level: float) -> float:
    """Student's t that a two-sided interval of this level needs, for a jackknife of so many groups."""
    return float(stdtrit(groups - 1, (1 + level) / 2))
