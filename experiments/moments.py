"""Means and variances of a stream of stacked activations."""

import torch
from torch import Tensor


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
        rows = x.movedim(2, 1).flatten(2)  # [members, channels, batch * positions]
        count = rows.shape[-1]
        mean = rows.mean(-1, keepdim=True)
        squares = torch.linalg.vector_norm(rows - mean, dim=-1).double().square()
        mean = mean[..., 0].double()
        total = self.count + count
        step = mean - self.mean
        self._squares = self._squares + squares + step.square() * (self.count * count / total)
        self.mean = self.mean + step * (count / total)
        self.count = total

    @property
    def variance(self) -> Tensor:
        """Unbiased variance [members, channels], divided by the count less one."""
        return self._squares / (self.count - 1)
