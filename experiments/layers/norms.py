"""Normalisation layers for one network or a stack, by the name that the configuration gives them.

`batch` is the subject of the harness: it normalises by other statistics at test than in training. The others
are its controls: `group` and `layer` normalise each sample by itself, in both modes alike, and `none` does
nothing. None of the three stores statistics.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from experiments.kernels.normalisation import batch_norm, batch_norm_gradient, normalise
from experiments.layers.layout import (
    batch_first,
    batch_last,
    batch_last_rows,
    fold_members,
    takes_batch_last,
    unfold_members,
)

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


def norm_relu_beside(norm: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """ReLU(norm(x)), and x for what stands beside it.

    What both make of x, its gradient, is then summed where that of batch normalisation is made, in one pass.
    """
    if isinstance(norm, _BatchNorm) and norm.training and norm.weight.dim() > 1 and takes_batch_last(x):
        return norm(x, relu=True, beside=True)
    return norm_relu(norm, x), x


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

    def forward(  # type: ignore[override]
        self, input: Tensor, relu: bool = False, beside: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Normalise by the batch (train mode) or by the stored statistics (eval mode); `relu`: max(0, y).

        `beside`: return the input too, see `norm_relu_beside`.
        """
        if self.weight.dim() == 1:
            y = super().forward(input)
        elif not takes_batch_last(input):
            y = self._normalise_folded(input)
        elif self.training:
            options = _running_statistics(self), self.momentum, self.eps, relu
            y, x = StackedBatchNorm.apply(input, self.weight, self.bias, *options)  # type: ignore[misc]
            return (y, x) if beside else y
        else:
            mean, var = _running_statistics(self)
            scale = self.weight * torch.rsqrt(var + self.eps)  # [members, channels]
            shift = self.bias - mean * scale
            if not torch.is_grad_enabled():
                return batch_first(normalise(batch_last(input), scale, shift, relu))
            per_channel = (len(scale), 1, -1, *[1] * (input.dim() - 3))
            y = torch.addcmul(shift.view(per_channel), input, scale.view(per_channel))
        y = F.relu(y) if relu else y
        return (y, input) if beside else y

    def _normalise_folded(self, input: Tensor) -> Tensor:
        mean, var = _running_statistics(self)
        y = F.batch_norm(
            fold_members(input),
            mean.view(-1),
            var.view(-1),
            self.weight.flatten(),
            self.bias.flatten(),
            self.training,
            self.momentum or 0.0,
            self.eps,
        )
        return unfold_members(y, len(self.weight))


class BatchNorm(_BatchNorm, nn.BatchNorm1d):
    """Batch normalisation of features [..., batch, features]."""


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """Batch normalisation of images [..., batch, channels, height, width]."""


def _running_statistics(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Return the running mean and variance [members, channels] that this pass uses, counting the batch."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    if norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    return norm.running_mean, norm.running_var


class StackedBatchNorm(Function):
    """Batch normalisation of x [members, batch, channels, ...] by each member's own batch, in train mode.

    On a CPU. Normalises by the biased variance and moves the running variance by the unbiased one, as torch
    does; running mean and variance [members, channels] are updated in place. `relu`: return max(0, y).
    """

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running: tuple[Tensor, Tensor],
        momentum: float,
        eps: float,
        relu: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return gamma (x - mean) / sqrt(var + eps) + beta, and x."""
        values = batch_last(x)
        y, statistics = batch_norm(values, weight, bias, running, momentum, eps, relu)
        ctx.save_for_backward(values, statistics)
        ctx.relu = relu
        ctx.set_materialize_grads(False)
        return batch_first(y), x

    @staticmethod
    def backward(ctx, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight and bias."""
        x, statistics = ctx.saved_tensors
        grad, other = grads
        if grad is None:
            return other, None, None, None, None, None, None
        if other is not None:
            other = batch_last_rows(other)
        grad_x, grad_stats = batch_norm_gradient(batch_last(grad), x, statistics, ctx.relu, other)
        return batch_first(grad_x), grad_stats[..., 0], grad_stats[..., 1], None, None, None, None


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
            return StackedGroupNorm.apply(input, self.weight, self.bias, self.num_groups, self.eps)  # type: ignore[return-value]
        if members == 1:
            x, weight, bias = input.squeeze(0), self.weight.squeeze(0), self.bias.squeeze(0)
            return F.group_norm(x, self.num_groups, weight, bias, self.eps).unsqueeze(0)
        samples = input.flatten(0, 1)  # [members * batch, channels, ...]
        y = F.group_norm(samples, self.num_groups, eps=self.eps).unflatten(0, input.shape[:2])
        per_channel = (members, 1, self.num_channels, *[1] * (input.dim() - 3))
        return torch.addcmul(self.bias.view(per_channel), y, self.weight.view(per_channel))


class StackedGroupNorm(Function):
    """Normalisation of each sample of x [members, batch, channels, ...] over groups of channels.

    As torch.nn.GroupNorm, with each member's own weight and bias [members, channels].
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        """Return gamma (x - mean) / sqrt(var + eps) + beta."""
        x = batch_last(x)  # [members, ..., channels, batch]
        shape = x.shape
        x = x.view(len(x), -1, groups, shape[-2] // groups, shape[-1])
        weight, bias = (values.view(len(x), 1, groups, -1, 1) for values in (weight, bias))
        count = x.shape[1] * x.shape[3]
        deviations = x - x.sum(1, keepdim=True).sum(3, keepdim=True) / count
        var = deviations.square().sum(1, keepdim=True).sum(3, keepdim=True) / count
        inverse_std = torch.rsqrt(var + eps)  # [members, 1, groups, 1, batch]
        ctx.save_for_backward(deviations, inverse_std, weight)
        return batch_first(torch.addcmul(bias, deviations, weight * inverse_std).view(shape))

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight and bias."""
        deviations, inverse_std, weight = ctx.saved_tensors
        grad = batch_last(grads[0])
        shape, grad = grad.shape, grad.reshape(deviations.shape)
        count = deviations.shape[1] * deviations.shape[3]
        sums = grad.sum(1, keepdim=True)  # [members, 1, groups, channels of one, batch]
        products = (grad * deviations).sum(1, keepdim=True) * inverse_std
        grad_bias, grad_weight = (total.sum(-1).view(len(grad), -1) for total in (sums, products))
        # dL/dx = (w g - mean of w g - x^ mean of w g x^) / std, with x^ = (x - mean) / std.
        of_mean = (weight * sums).sum(3, keepdim=True) / -count * inverse_std
        of_std = (weight * products).sum(3, keepdim=True) / -count * inverse_std.square()
        grad_x = torch.addcmul(of_mean, deviations, of_std).addcmul_(grad, weight * inverse_std)
        return batch_first(grad_x.view(shape)), grad_weight, grad_bias, None, None
