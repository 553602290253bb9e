"""Streaming moments of a layer's input, per channel and in groups of samples."""

import copy
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from analysis.audit.sums import FAR, SampleSums, Summation

GROUPS = 20
ROWS = 12 * GROUPS  # samples that are added side by side
HELD = 16  # additions to the same row before it is added to its group in double precision


class GroupedMoments:
    """Count, mean and variance per channel, in 20 groups of samples; constant memory.

    Sample i of the stream belongs to group i mod 20, so that two streams of the same samples fall into the
    same groups and their ratio is paired. The whole is pooled over all samples and positions, its variance
    unbiased (divided by the count less one), exact for batches of any sizes. Sums of a few batches are in the
    precision of the input, around a reference where their mean is far from 0; those of all in double precision.
    """

    def __init__(self) -> None:
        self.seen = 0
        self.batches = 0
        self._is_started = False
        self._reference: Tensor | None = None  # what the sums are taken around, [channels]; None for 0
        self._summation: Summation | None = None  # of inputs as the last one
        # Sums of x and of its square [2, groups, channels], in double precision; and those of the last batches,
        # [2, rows, channels] in the precision of the input: row i belongs to group i mod 20.
        self._sums = torch.zeros(0)
        self._rows = torch.zeros(2, 0, 0)
        self._places: dict[tuple[int, torch.Size], list[Any]] = {}  # see `_make_places`
        self._held = 0  # additions to `_rows`
        self._positions = 0  # of a sample of the last batch
        # Numbers and samples of each group before a sample had so many positions.
        self._count, self._counted = np.zeros((GROUPS, 1)), 0
        self._known: _Summary | None = None  # what `_summary` found since the last update

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
        if self._held >= HELD:
            self._empty_rows()
            self._follow_the_mean()
        known = self._summation
        if known is None or known.shape != x.shape or known.dtype != x.dtype:
            known = self._summation = Summation(x, self._reference)
        sums = known.of(x)
        if not self._is_started:
            self._is_started = True
            self._reference = sums.far_mean()
            if self._reference is not None:
                self._summation = Summation(x, self._reference)
                return self._summation.of(x)
        return sums

    def add(self, added: SampleSums) -> None:
        """Add what `sums_of` found of a batch."""
        sums, positions, _ = added
        samples = sums.shape[-2]
        if positions != self._positions:
            self._count, self._counted = self._counts(), self.seen
            self._positions = positions
        places = self._places.get((self.seen % GROUPS, sums.shape)) or self._make_places(sums)
        for rows, part in zip(places, (sums,) if samples <= ROWS else sums.split(ROWS, -2), strict=True):
            if positions > 1:
                rows.add_(part)
            else:
                rows[0].add_(part)
                rows[1].addcmul_(part, part)
        self.seen += samples
        self.batches += 1
        self._held += len(places)
        self._known = None

    def _make_places(self, sums: Tensor) -> list[Any]:
        """The rows that parts of the next batch are added to: of both sums, or if it has one alone, a pair."""
        samples, channels = sums.shape[-2:]
        start = self.seen % GROUPS
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
        if self._held:
            self._sums = self._sums + self._rows.unflatten(1, (-1, GROUPS)).sum(1).to(self._sums)
            self._rows.zero_()
            self._held = 0

    def _counts(self) -> np.ndarray:
        """Samples times positions in each group [groups, 1]."""
        groups = np.arange(GROUPS)[:, None]
        before, now = ((n + GROUPS - 1 - groups) // GROUPS for n in (self._counted, self.seen))
        return self._count + self._positions * (now - before)

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

    def _summary(self) -> "_Summary":
        if self._known is None:
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
            self._known = _Summary(means, variance, np.concatenate([[variance.mean()], left_out]))
        return self._known


class _Summary(NamedTuple):
    """Means [1 + groups, channels] and layer's values [1 + groups], of all groups and without each one in turn.

    And the variance [channels] of all.
    """

    means: np.ndarray
    variance: np.ndarray
    layer_variances: np.ndarray
