"""Layers that work alike for one network and for a stack of networks.

A layer whose parameters have their usual shape is the torch layer it derives from. When `experiments.stack`
has given its parameters a leading members dimension, it maps [members, batch, ...] to [members, batch, ...],
each member with its own parameters. A network built of these layers and of elementwise operations, with
dimensions counted from the end, is therefore written once.
"""

import torch
import torch.nn.functional as F
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
        mean, var = _running_statistics(self)
        if self.training:
            return StackedBatchNorm.apply(input, self.weight, self.bias, (mean, var), self.momentum, self.eps)  # type: ignore[return-value]
        scale = self.weight * torch.rsqrt(var + self.eps)  # [members, features]
        shift = self.bias - mean * scale
        return input * scale.unsqueeze(-2) + shift.unsqueeze(-2)


class Conv2d(nn.Conv2d):
    """Convolution of images. x [..., batch, in_channels, height, width] -> [..., batch, out_channels, ...].

    On a CPU a stack's members are convolved one after the other, which beats a grouped convolution there; on a
    GPU they are the groups of one.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer of one network or of each member of a stack."""
        if self.weight.dim() == 4:
            return super().forward(input)
        members = self.weight.shape[0]
        biases = [None] * members if self.bias is None else list(self.bias)
        if input.device.type == "cpu" or members == 1 or self.padding_mode != "zeros":
            each = zip(input, self.weight, biases, strict=True)
            return torch.stack([self._conv_forward(x, weight, bias) for x, weight, bias in each])
        folded = F.conv2d(
            _fold_members(input),
            self.weight.flatten(0, 1),
            None if self.bias is None else self.bias.flatten(),
            self.stride,
            self.padding,
            self.dilation,
            self.groups * members,
        )
        return _unfold_members(folded, members)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation of images: x [..., batch, channels, height, width], as torch.nn.BatchNorm2d."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise by the batch (train mode) or by the stored statistics (eval mode)."""
        if self.weight.dim() == 1:
            return super().forward(input)
        mean, var = _running_statistics(self)
        normalised = F.batch_norm(
            _fold_members(input),
            mean.view(-1),
            var.view(-1),
            self.weight.flatten(),
            self.bias.flatten(),
            self.training,
            self.momentum or 0.0,
            self.eps,
        )
        return _unfold_members(normalised, self.weight.shape[0])


def _running_statistics(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return the running mean and variance [members, channels] that this pass uses, counting the batch."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    if norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    return norm.running_mean, norm.running_var


def _fold_members(x: Tensor) -> Tensor:
    """[members, batch, channels, height, width] -> [batch, members * channels, height, width]."""
    return x[0] if x.shape[0] == 1 else x.movedim(0, 1).flatten(1, 2)


def _unfold_members(x: Tensor, members: int) -> Tensor:
    """[batch, members * channels, height, width] -> [members, batch, channels, height, width]."""
    return x.unsqueeze(0) if members == 1 else x.unflatten(1, (members, -1)).movedim(1, 0)
