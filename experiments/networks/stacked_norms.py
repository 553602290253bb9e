"""Normalisation of images over a stack of members on a CPU, forward and backward."""

import functools
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.autograd import Function

from experiments.kernels import normalisation
from experiments.kernels.machine import compiled, lanes, over_threads
from experiments.networks.stacked_images import batch_first, batch_last


def channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return each channel's mean, and its sum of squares around it, [members, channels] in double precision.

    x [members, height, width, channels, batch], contiguous.
    """
    kernel = compiled(normalisation.channel_moments, x.dtype, ragged=_ragged(x))
    moments = torch.empty(2, len(x), x.shape[3], dtype=torch.double)
    _over_channels(kernel, x, *moments)
    return moments[0], moments[1]


class StackedBatchNorm2d(Function):
    """Batch normalisation of x [members, batch, channels, height, width] by each member's batch, in train mode.

    Normalises by the biased variance and moves the running variance by the unbiased one, as torch does; running
    mean and variance [members, channels] are updated in place. `relu`: return max(0, y).
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
    ) -> Tensor:
        """Return gamma (x - mean) / sqrt(var + eps) + beta."""
        x = batch_last(x).contiguous()
        statistics = torch.empty(4, *weight.shape, dtype=x.dtype)  # mean, inverse_std, scale, shift
        options = {"ragged": _ragged(x), "momentum": momentum, "eps": eps}
        kernel = compiled(normalisation.batch_statistics, x.dtype, **options)
        _over_channels(kernel, x, weight, bias, *running, *statistics.unbind())
        y = torch.empty_like(x)
        _over_pixels(
            compiled(normalisation.normalise, x.dtype, relu=int(relu)), x, *statistics[2:].unbind(), y
        )
        ctx.save_for_backward(x, statistics)
        ctx.relu = int(relu)
        return batch_first(y)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight and bias."""
        x, statistics = ctx.saved_tensors
        grad = batch_last(grads[0]).contiguous()
        made = torch.empty_like(statistics)  # grad_weight, grad_bias, slope, offset
        kernel = compiled(normalisation.gradient_statistics, x.dtype, relu=ctx.relu, ragged=_ragged(x))
        _over_channels(kernel, grad, x, *statistics.unbind(), *made.unbind())
        grad_x = torch.empty_like(x)
        kernel = compiled(normalisation.input_gradient, x.dtype, relu=ctx.relu)
        _over_pixels(kernel, grad, x, *statistics[2:].unbind(), *made[2:].unbind(), grad_x)
        return batch_first(grad_x), made[0], made[1], None, None, None, None


def _ragged(x: Tensor) -> int:
    return int(x.shape[4] % lanes(x.dtype) > 0)


def _members(*arrays: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Each member's part of arrays [members, ...]; a single member's begins where they begin."""
    return [arrays] if len(arrays[0]) == 1 else zip(*(array.unbind() for array in arrays), strict=True)


def _over_channels(kernel: Callable[..., None], images: Tensor, *arrays: Tensor) -> None:
    """Call a kernel of channels with each member's images [height, width, channels, batch] and further arrays."""
    _, height, width, channels, batch = images.shape
    for parts in _members(images, *arrays):
        over_threads(channels, functools.partial(kernel, *parts, batch, channels, height * width))


def _over_pixels(kernel: Callable[..., None], images: Tensor, *arrays: Tensor) -> None:
    """Call a kernel of pixels with each member's images [height, width, channels, batch] and further arrays."""
    _, height, width, channels, batch = images.shape
    for parts in _members(images, *arrays):
        over_threads(height * width, functools.partial(kernel, *parts, batch, channels))


class StackedGroupNorm(Function):
    """Normalisation of each sample of x [members, batch, channels, height, width] over groups of channels.

    As torch.nn.GroupNorm, with each member's own weight and bias [members, channels].
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        """Return gamma (x - mean) / sqrt(var + eps) + beta."""
        shape = batch_last(x).shape  # [members, height, width, channels, batch]
        x = batch_last(x).reshape(len(x), -1, groups, shape[3] // groups, shape[4])
        weight, bias = (values.view(len(x), 1, groups, -1, 1) for values in (weight, bias))
        count = x.shape[1] * x.shape[3]
        centred = x - x.sum(1, keepdim=True).sum(3, keepdim=True) / count
        var = centred.square().sum(1, keepdim=True).sum(3, keepdim=True) / count
        inverse_std = torch.rsqrt(var + eps)  # [members, 1, groups, 1, batch]
        ctx.save_for_backward(centred, inverse_std, weight)
        return batch_first(torch.addcmul(bias, centred, weight * inverse_std).view(shape))

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight and bias."""
        centred, inverse_std, weight = ctx.saved_tensors
        grad = batch_last(grads[0])
        shape, grad = grad.shape, grad.reshape(centred.shape)
        count = centred.shape[1] * centred.shape[3]
        sums = grad.sum(1, keepdim=True)  # [members, 1, groups, channels of one, batch]
        products = (grad * centred).sum(1, keepdim=True) * inverse_std
        grad_bias, grad_weight = (total.sum(-1).view(len(grad), -1) for total in (sums, products))
        # dL/dx = (w g - mean of w g - x^ mean of w g x^) / std, with x^ = (x - mean) / std.
        of_mean = (weight * sums).sum(3, keepdim=True) / -count * inverse_std
        of_std = (weight * products).sum(3, keepdim=True) / -count * inverse_std.square()
        grad_x = torch.addcmul(of_mean, centred, of_std).addcmul_(grad, weight * inverse_std)
        return batch_first(grad_x.view(shape)), grad_weight, grad_bias, None, None
