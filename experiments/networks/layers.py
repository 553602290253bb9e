"""Layers that work alike for one network and for a stack of networks.

A layer whose parameters have their usual shape is the torch layer it derives from. When `experiments.stack`
has given its parameters a leading members dimension, it maps [members, batch, ...] to [members, batch, ...],
each member with its own parameters. A network built of these layers and of elementwise operations, with
dimensions counted from the end, is therefore written once.
"""

import torch
from torch import Tensor, nn

from experiments.networks.stacked import StackedBatchNorm, StackedLinear


class Linear(nn.Linear):
    """y = x W^T + b. x [..., batch, in_features] -> [..., batch, out_features]."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer of one network or of each member of a stack."""
        if self.weight.dim() == 2:
            return super().forward(input)
        y: Tensor = StackedLinear.apply(input, self.weight)  # type: ignore[assignment]
        return y if self.bias is None else y + self.bias.unsqueeze(-2)


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation of features: x [..., batch, features], statistics over the batch.

    As torch.nn.BatchNorm1d: eps 1e-5, momentum 0.1 (the weight of the *new* batch), the biased variance to
    normalise, the unbiased one in the running variance.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise by the batch (train mode) or by the stored statistics (eval mode)."""
        if self.weight.dim() == 1:
            return super().forward(input)
        running = (self.running_mean, self.running_var)
        if self.training:
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
            return StackedBatchNorm.apply(input, self.weight, self.bias, running, self.momentum, self.eps)  # type: ignore[return-value]
        scale = self.weight * torch.rsqrt(running[1] + self.eps)  # [members, features]
        shift = self.bias - running[0] * scale
        return input * scale.unsqueeze(-2) + shift.unsqueeze(-2)
