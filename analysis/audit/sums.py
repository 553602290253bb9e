"""Sums over the positions of each sample of a layer's input: what its moments are made of."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

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

    What it needs is made once and written to by every batch: small layers take less time than making it.
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
