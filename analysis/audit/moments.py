"""Streaming moments of a layer's input, per channel and in groups of samples."""

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

GROUPS = 20
FAR = 100.0  # squared mean over variance beyond which float32 loses more than 1e-5 of the variance
FEW = 32  # positions up to which a product with ones sums them faster than a sum does, on a CPU


class SampleSums(NamedTuple):
    """Sums over the positions of each sample, of x - reference and of its square: [2, samples, channels].

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
        mean, square = (self.sums.sum(1) / (self.sums.shape[1] * self.positions)).unbind()
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
        # Sums of x and of its square [2, groups, channels], in double precision.
        self._sums = torch.zeros(0)
        self._positions = 0  # of a sample of the last batch
        self._count, self._counted = (
            np.zeros((GROUPS, 1)),
            0,
        )  # of the samples before there were so many positions
        self._next_check = 1024  # samples at which to look again how far the mean is from the reference
        self._known: tuple[np.ndarray, ...] | None = None  # what `_summary` found since the last update

    def update(self, x: Tensor) -> SampleSums:
        """Add a batch x [samples, channels, *positions]; return the sums of its samples."""
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
        """Add sums of samples to those of their groups."""
        if (
            torch.get_float32_matmul_precision() != "highest"
        ):  # then a product would round them to a few digits
            sums = sums.to(self._sums)
        members = _members(self.seen % GROUPS, sums.shape[1], sums.dtype, sums.device)
        self._sums.add_(torch.bmm(members, sums).to(self._sums.device))

    def _counts(self) -> np.ndarray:
        """Samples times positions in each group [groups, 1]."""
        groups = np.arange(GROUPS)[:, None]
        before, now = ((n + GROUPS - 1 - groups) // GROUPS for n in (self._counted, self.seen))
        return self._count + self._positions * (now - before)

    def _follow_the_mean(self) -> None:
        """Take the sums around the mean if it is far from what they are taken around."""
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
            sums, counts = self._sums.cpu().numpy(), self._counts()
            total, count = sums.sum(1, keepdims=True), counts.sum()
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
        x = x.flatten(1)
        return SampleSums(torch.stack((x, x.square())), 1, reference)
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


@functools.lru_cache(maxsize=32)
def _members(first: int, samples: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Which samples are in which group, [2, groups, samples] of 0 and 1; the first sample is in group `first`."""
    groups = (first + torch.arange(samples, device=device)) % GROUPS
    return (torch.arange(GROUPS, device=device)[:, None] == groups).to(dtype).expand(2, -1, -1)
