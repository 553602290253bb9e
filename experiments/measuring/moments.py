"""Means and variances of a stream of stacked activations."""

import torch
from torch import Tensor

from analysis.theory.layers import Convolution, entry_sums
from experiments.kernels.normalisation import channel_moments
from experiments.layers.layout import batch_last, takes_batch_last


class Moments:
    """Mean and unbiased variance per member and channel, pooled over all samples and positions seen so far.

    Batches are merged by Chan's formula in double precision, so that neither their number nor a large mean
    costs digits. Merged batches of different means count the spread of their means, as pooling must.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor = torch.zeros(())  # [members, channels] after the first update
        self._squares: Tensor = torch.zeros(())  # centred sum of squares, [members, channels]

    def update(self, x: Tensor) -> None:
        """Add a batch x [members, batch, channels, *positions]."""
        count = x[0, :, 0].numel()
        if takes_batch_last(x):
            mean, squares = channel_moments(batch_last(x))
        else:
            rows = x.movedim(2, 1).flatten(2)  # [members, channels, batch * positions]
            centre = rows.mean(-1, keepdim=True)
            squares = torch.linalg.vector_norm(rows - centre, dim=-1).double().square()
            mean = centre[..., 0].double()
        total = self.count + count
        step = mean - self.mean
        self._squares = self._squares + squares + step.square() * (self.count * count / total)
        self.mean = self.mean + step * (count / total)
        self.count = total

    @property
    def variance(self) -> Tensor:
        """Unbiased variance [members, channels], divided by the count less one."""
        return self._squares / (self.count - 1)

    @property
    def mean_square(self) -> Tensor:
        """Mean of x^2 [members, channels]."""
        return self._squares / self.count + self.mean.square()


class PatchMoments:
    """Mean and unbiased variance per member and entry of the patches that a convolution reads.

    Pooled over all samples and output positions seen so far. Kept as sums per place in the image, of which
    every entry takes some: patches are never formed.
    """

    def __init__(self, layer: Convolution) -> None:
        self.layer = layer  # its geometry alone counts
        self.samples = 0
        self._sums: Tensor = torch.zeros(())  # [members, channels, *positions] after the first update
        self._squares: Tensor = torch.zeros(())

    def update(self, x: Tensor) -> None:
        """Add a batch x [members, batch, channels, *positions]."""
        self.samples += x.shape[1]
        self._sums = self._sums + x.sum(1).double()
        self._squares = self._squares + x.square().sum(1).double()

    @property
    def mean(self) -> Tensor:
        """Mean [members, entries]."""
        sums, positions = entry_sums(self.layer, self._sums)
        return sums / (self.samples * positions)

    @property
    def variance(self) -> Tensor:
        """Unbiased variance [members, entries], divided by the count less one."""
        squares, positions = entry_sums(self.layer, self._squares)
        count = self.samples * positions
        return (squares - count * self.mean.square()) / (count - 1)

    @property
    def mean_square(self) -> Tensor:
        """Mean of x^2 over the samples alone, [members, channels, *positions]."""
        return self._squares / self.samples
