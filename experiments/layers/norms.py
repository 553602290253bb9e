"""Normalisation layers for one network or a stack, by the name that the configuration gives them.

`batch` is the subject of the harness: it normalises by other statistics at test than in training. The others
are its controls: `group` and `layer` normalise each sample by itself, in both modes alike, and `none` does
nothing. None of the three stores statistics.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.layers.convolution import fold_members, unfold_members
from experiments.layers.layout import takes_batch_last

NORMS = ("batch", "group", "layer", "none")


def feature_norm(norm: str, features: int) -> nn.Module:
    """Return the normalisation `norm` of features [..., batch, features]."""
    return BatchNorm(features) if norm == "batch" else _norm_of_a_sample(norm, features)


def image_norm(norm: str, channels: int) -> nn.Module:
    """Return the normalisation `norm` of images [..., batch, channels, height, width]."""
    return BatchNorm2d(channels) if norm == "batch" else _norm_of_a_sample(norm, channels)


def _norm_of_a_sample(norm: str, channels: int) -> nn.Module:
    if norm == "none":
        return nn.Identity()
    return GroupNorm(1 if norm == "layer" else group_count(channels), channels)


def norm_relu(norm: nn.Module, x: Tensor) -> Tensor:
    """ReLU(norm(x)), which batch normalisation has in one operation."""
    return norm(x, relu=True) if isinstance(norm, _BatchNorm) else F.relu(norm(x))


def group_count(channels: int) -> int:
    """Return the groups of GroupNorm: at most 32, each of at least 8 channels, and all of one size.

    32 is the choice of Wu & He (arXiv 1803.08494). Narrow layers get fewer groups, because a group of one
    channel, which for features is one number, would be normalised away.
    """
    possible = [groups for groups in range(1, 33) if channels % groups == 0 and channels >= 8 * groups]
    return max(possible, default=1)


def stores_statistics(norm: nn.Module) -> bool:
    """Say whether a normalisation layer keeps a running mean and variance for eval mode."""
    return getattr(norm, "running_var", None) is not None


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation of one network or of a stack, x [..., batch, channels, ...], as torch's.

    eps 1e-5, momentum 0.1 (the weight of the *new* batch), the biased variance to normalise, the unbiased one in
    the running variance.
    """

    def forward(self, input: Tensor, relu: bool = False) -> Tensor:
        """Normalise by the batch (train mode) or by the stored statistics (eval mode); `relu`: max(0, y)."""
        if self.weight.dim() == 1:
            normalised = super().forward(input)
        elif not takes_batch_last(input):
            normalised = self._normalise_folded(input)
        elif self.training:
            from experiments.layers.stacked_norms import StackedBatchNorm  # which imports LLVM

            options = _running_statistics(self), self.momentum, self.eps, relu
            return StackedBatchNorm.apply(input, self.weight, self.bias, *options)  # type: ignore[return-value]
        else:
            mean, var = _running_statistics(self)
            scale = self.weight * torch.rsqrt(var + self.eps)  # [members, channels]
            shift = self.bias - mean * scale
            per_channel = (len(scale), 1, -1, *[1] * (input.dim() - 3))
            normalised = torch.addcmul(shift.view(per_channel), input, scale.view(per_channel))
        return F.relu(normalised) if relu else normalised

    def _normalise_folded(self, input: Tensor) -> Tensor:
        mean, var = _running_statistics(self)
        normalised = F.batch_norm(
            fold_members(input),
            mean.view(-1),
            var.view(-1),
            self.weight.flatten(),
            self.bias.flatten(),
            self.training,
            self.momentum or 0.0,
            self.eps,
        )
        return unfold_members(normalised, len(self.weight))


class BatchNorm(_BatchNorm, nn.BatchNorm1d):
    """Batch normalisation of features [..., batch, features]."""


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """Batch normalisation of images [..., batch, channels, height, width]."""


class GroupNorm(nn.GroupNorm):
    """Normalisation of each sample over groups of channels and all positions, as torch.nn.GroupNorm.

    x [..., batch, channels, height, width] or [..., batch, features]. With a single group it is layer
    normalisation, with one scale and shift a channel, as is usual for images.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise each sample by itself, in both modes."""
        if self.weight.dim() == 1:
            return super().forward(input)
        members = len(self.weight)
        if takes_batch_last(input):
            from experiments.layers.stacked_norms import StackedGroupNorm  # which imports LLVM

            return StackedGroupNorm.apply(input, self.weight, self.bias, self.num_groups, self.eps)  # type: ignore[return-value]
        if members == 1:
            x, weight, bias = input.squeeze(0), self.weight.squeeze(0), self.bias.squeeze(0)
            return F.group_norm(x, self.num_groups, weight, bias, self.eps).unsqueeze(0)
        samples = input.flatten(0, 1)  # [members * batch, channels, ...]
        normalised = F.group_norm(samples, self.num_groups, eps=self.eps).unflatten(0, input.shape[:2])
        per_channel = (members, 1, self.num_channels, *[1] * (input.dim() - 3))
        return torch.addcmul(self.bias.view(per_channel), normalised, self.weight.view(per_channel))


def _running_statistics(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Return the running mean and variance [members, channels] that this pass uses, counting the batch."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    if norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    return norm.running_mean, norm.running_var
