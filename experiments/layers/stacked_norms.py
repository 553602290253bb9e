"""Normalisation over a stack of members on a CPU, forward and backward."""

import functools
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.autograd import Function

from experiments.kernels import features, normalisation
from experiments.kernels.machine import NUMBERS, compiled, lanes, over_threads
from experiments.layers.layout import batch_first, batch_last


def channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return each channel's mean, and its sum of squares around it, [members, channels] in double precision.

    x [members, ..., channels, batch], contiguous.
    """
    kernel = compiled(normalisation.channel_moments, x.dtype, ragged=_ragged(x))
    moments = torch.empty(2, len(x), x.shape[-2], dtype=torch.double)
    _over_channels(kernel, x, *moments)
    return moments[0], moments[1]


class StackedBatchNorm(Function):
    """Batch normalisation of x [members, batch, channels, ...] by each member's own batch, in train mode.

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
        x = batch_last(x)
        y, statistics = torch.empty_like(x), torch.empty(*weight.shape, 4, dtype=x.dtype)
        arrays, options = (x, weight, bias, *running, statistics), {"ragged": _ragged(x), "eps": eps}
        if x.dim() == 3:
            kernel = compiled(features.normalise, x.dtype, relu=int(relu), **options)
            _over_features(kernel, *arrays, y, numbers=(momentum,))
        else:
            kernel = compiled(normalisation.batch_statistics, x.dtype, **options)
            _over_channels(kernel, *arrays, numbers=(momentum,))
            _over_pixels(compiled(normalisation.normalise, x.dtype, relu=int(relu)), x, statistics, y)
        ctx.save_for_backward(x, statistics)
        ctx.relu = int(relu)
        return batch_first(y)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight and bias."""
        x, statistics = ctx.saved_tensors
        made, grad_x = torch.empty_like(statistics), torch.empty_like(x)
        arrays, options = (batch_last(grads[0]), x, statistics, made), {"relu": ctx.relu}
        ragged = _ragged(x)
        if x.dim() == 3:
            _over_features(compiled(features.gradient, x.dtype, ragged=ragged, **options), *arrays, grad_x)
        else:
            kernel = compiled(normalisation.gradient_statistics, x.dtype, ragged=ragged, **options)
            _over_channels(kernel, *arrays)
            _over_pixels(compiled(normalisation.input_gradient, x.dtype, **options), *arrays, grad_x)
        return batch_first(grad_x), made[..., 0], made[..., 1], None, None, None, None


def _ragged(x: Tensor) -> int:
    return int(x.shape[-1] % lanes(x.dtype) > 0)


def _members(*arrays: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Each member's part of arrays [members, ...]; a single member's begins where they begin."""
    return [arrays] if len(arrays[0]) == 1 else zip(*(array.unbind() for array in arrays), strict=True)


def _over_features(
    kernel: Callable[..., None], x: Tensor, *arrays: Tensor, numbers: tuple[float, ...] = ()
) -> None:
    """Call a kernel of features with all members' x [members, features, batch], further arrays and numbers."""
    members, features, batch = x.shape
    over_threads(members * features, functools.partial(kernel, x, *arrays, *numbers, batch), batch / NUMBERS)


def _over_channels(
    kernel: Callable[..., None], x: Tensor, *arrays: Tensor, numbers: tuple[float, ...] = ()
) -> None:
    """Call a kernel of channels with each member's x [..., channels, batch], further arrays and numbers."""
    *space, channels, batch = x.shape[1:]
    if not space:  # of a single pixel, the channels of all members follow one another
        x, arrays, channels = x[None], tuple(array[None] for array in arrays), len(x) * channels
    for parts in _members(x, *arrays):
        work = functools.partial(kernel, *parts, *numbers, batch, channels, math.prod(space))
        over_threads(channels, work, math.prod(space) * batch / NUMBERS)


def _over_pixels(kernel: Callable[..., None], images: Tensor, *arrays: Tensor) -> None:
    """Call a kernel of pixels with each member's images [height, width, channels, batch] and further arrays."""
    _, height, width, channels, batch = images.shape
    for parts in _members(images, *arrays):
        work = functools.partial(kernel, *parts, batch, channels)
        over_threads(height * width, work, channels * batch / NUMBERS)


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
