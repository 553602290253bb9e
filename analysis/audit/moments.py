"""Streaming moments of a layer's input, per channel and in groups of samples."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

GROUPS = 20
FAR = 100.0  # squared mean over variance beyond which float32 loses more than 1e-5 of the variance
FEW = 32  # positions up to which a product with ones sums them faster than a sum does, on a CPU
ROWS = 12 * GROUPS  # samples that are added side by side
HELD = 16  # additions to the same row before it is added to its group in double precision


class SampleSums(NamedTuple):
    """Sums over the positions of each sample, of x - reference and of its square: [2, samples, channels].

    Of samples with a single position the first alone, [1, samples, channels]: the rest would be the same again.
    `reference` [channels] is None where it is 0.
    """

    sums: Tensor
    positions: int
    reference: Tensor | None

    def mean(self) -> Tensor:
        """Mean per channel [channels]."""
        mean = self.sums[0].sum(0) / (self.sums.shape[1] * self.positions)
        return mean if self.reference is None else mean + self.reference

    def moments(self) -> tuple[Tensor, Tensor] | None:
        """Mean and biased variance per channel [channels], as BN takes them; None where their digits are lost."""
        sums = self.sums if len(self.sums) == 2 else torch.cat((self.sums, self.sums.square()))
        mean, square = (sums.sum(1) / (sums.shape[1] * self.positions)).unbind()
        variance = torch.addcmul(square, mean, mean, value=-1)
        if not float(torch.addcmul(variance, mean, mean, value=-1 / FAR).amin()) >= 0:
            return None
        return mean if self.reference is None else mean + self.reference, variance


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
        self._reference: Tensor | None = None  # what the sums are taken around, [channels]; None for 0
        # Sums of x and of its square [2, groups, channels], in double precision; and those of the last batches,
        # [2, rows, channels] in the precision of the input: row i belongs to group i mod 20.
        self._sums = torch.zeros(0)
        self._rows = torch.zeros(2, 0, 0)
        self._held = 0  # additions to `_rows`
        self._positions = 0  # of a sample of the last batch
        # Numbers and samples of each group before a sample had so many positions.
        self._count, self._counted = np.zeros((GROUPS, 1)), 0
        self._next_check = 1024  # samples at which to look again how far the mean is from the reference
        self._known: tuple[np.ndarray, ...] | None = None  # what `_summary` found since the last update

    def update(self, x: Tensor) -> SampleSums:
        """Add a batch x [samples, channels, *positions]; return its samples' sums, perhaps a view of x."""
        x = x.detach()
        x = x if x.dtype == torch.double else x.float()
        added = _sums_of(x, self._reference)
        if not self.batches:
            if added.moments() is None:
                self._reference = added.mean()
                added = _sums_of(x, self._reference)
            device = "cpu" if x.device.type == "mps" else x.device  # Apple's has no double precision
            self._sums = torch.zeros(2, GROUPS, x.shape[1], dtype=torch.double, device=device)
        if added.positions != self._positions:
            self._count, self._counted = self._counts(), self.seen
            self._positions = added.positions
        self._add(added.sums)
        self.seen += len(x)
        self.batches += 1
        self._known = None
        if self.seen >= self._next_check:
            self._next_check = 2 * self.seen
            self._follow_the_mean()
        return added

    def _add(self, sums: Tensor) -> None:
        """Add sums of samples to rows of their groups."""
        first = self.seen % GROUPS
        needed = -(-(first + min(sums.shape[1], ROWS)) // GROUPS) * GROUPS
        if needed > self._rows.shape[1]:
            self._empty_rows()
            self._rows = sums.new_zeros(2, needed, sums.shape[2])
        for part in (sums,) if sums.shape[1] <= ROWS else sums.split(ROWS, 1):
            if self._held == HELD:
                self._empty_rows()
            rows = self._rows[:, first : first + part.shape[1]]
            if len(part) == 2:
                rows.add_(part)
            else:
                rows[0].add_(part[0])
                rows[1].addcmul_(part[0], part[0])
            self._held += 1

    def _empty_rows(self) -> None:
        """Add the rows to their groups."""
        if self._held:
            self._sums.add_(self._rows.to(self._sums).unflatten(1, (-1, GROUPS)).sum(1))
            self._rows.zero_()
            self._held = 0

    def _counts(self) -> np.ndarray:
        """Samples times positions in each group [groups, 1]."""
        groups = np.arange(GROUPS)[:, None]
        before, now = ((n + GROUPS - 1 - groups) // GROUPS for n in (self._counted, self.seen))
        return self._count + self._positions * (now - before)

    def _follow_the_mean(self) -> None:
        """Take the sums around the mean if it is far from what they are taken around."""
        self._empty_rows()
        sums, squares = self._sums
        counts = torch.as_tensor(self._counts(), device=sums.device)
        mean, square = sums.sum(0) / counts.sum(), squares.sum(0) / counts.sum()
        if (mean.square() > FAR * (square - mean.square())).any():
            moved = (sums - counts * mean, squares - 2 * mean * sums + counts * mean.square())
            self._sums = torch.stack(moved)
            self._reference = mean if self._reference is None else self._reference + mean

    @property
    def mean(self) -> Tensor:
        """Mean per channel [channels], on the CPU."""
        return torch.from_numpy(self._summary()[0][0])

    @property
    def variance(self) -> Tensor:
        """Unbiased variance per channel [channels], on the CPU."""
        return torch.from_numpy(self._summary()[1][0])

    @property
    def layer_mean(self) -> float:
        """Channel mean of the means."""
        return float(self._summary()[0][0].mean())

    @property
    def layer_variance(self) -> float:
        """Channel mean of the variances: a layer's value."""
        return float(self._summary()[2][0])

    def means_without_each_group(self) -> np.ndarray:
        """Mean per channel with each group left out in turn, [groups, channels].

        nan for a group without samples, and where no other group has any.
        """
        return self._summary()[0][1:]

    def layer_variances_without_each_group(self) -> np.ndarray:
        """The layer's value with each group left out in turn [groups]; nan as above."""
        return self._summary()[2][1:]

    def _summary(self) -> tuple[np.ndarray, ...]:
        """Mean, variance [1 + groups, channels] and its channel mean: of all groups, then without each one."""
        if self._known is None:
            self._empty_rows()
            sums, counts = self._sums.cpu().numpy(), self._counts()
            total, count = sums.sum(1, keepdims=True), counts.sum()
            with np.errstate(invalid="ignore"):  # numbers too large, which `measure` tells of
                mean, square = np.concatenate([total, total - sums], 1)
            is_without = np.concatenate([[[False]], counts == 0])
            counts = np.concatenate([[[count]], count - counts])
            is_empty = is_without | (counts == 0)
            counts = np.where(is_empty, math.nan, np.maximum(counts, 2))
            mean /= counts
            variance = np.maximum(square - counts * mean**2, 0) / (counts - 1)
            if self._reference is not None:
                mean += self._reference.cpu().double().numpy()
            self._known = mean, variance, variance.mean(1)
        return self._known


def _sums_of(x: Tensor, reference: Tensor | None) -> SampleSums:
    """The sums of each sample of x [samples, channels, *positions] around a reference [channels]."""
    if reference is not None:
        x = x - reference.to(x).view(-1, *(1 for _ in x.shape[2:]))
    positions = math.prod(x.shape[2:])
    if positions == 1:
        return SampleSums(x.flatten(1).unsqueeze(0), 1, reference)
    x = x.flatten(2)
    sums = x.new_empty(2, *x.shape[:2])
    if not x.is_contiguous():  # channels last, where a norm is slow
        torch.sum(x, 2, out=sums[0])
        torch.sum(x.square(), 2, out=sums[1])
    elif positions <= FEW and x.device.type == "cpu":
        rows, ones = x.view(-1, positions), x.new_ones(positions)
        torch.mv(rows, ones, out=sums[0].view(-1))
        torch.mv(rows.square(), ones, out=sums[1].view(-1))
    else:
        torch.sum(x, 2, out=sums[0])
        torch.linalg.vector_norm(x, dim=2, out=sums[1])
        sums[1].square_()
    return SampleSums(sums, positions, reference)
