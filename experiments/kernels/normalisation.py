"""Batch normalisation with a ReLU behind it, and moments, of a stack of members whose batch lies last.

Images lie in memory as [members, height, width, channels, batch]; kernels see one member's as [pixels,
channels, batch]. Features lie as [members, features, batch]. Each feature is one row, and all that is to be
done to it is done while it is at hand: to the kernels it is a channel of a single pixel, and the features of
all members follow one another.

Sums are in double precision. Of each channel c kernels write down four numbers, [channels, 4]:

    statistics    mean, inverse_std, scale = gamma inverse_std, shift = beta - mean scale    y = scale x + shift
    grad_stats    grad_weight, grad_bias, slope, offset                  grad_x = scale grad + slope x + offset

`sums` of images are the memory of `channel_sums`.

With `relu` kernels are about max(0, y) in place of y. `ragged`: the batch is no whole number of vectors, and
the last overlaps the one before.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from experiments.kernels.channel_sums import ChannelSums, no_sums, sums_of
from experiments.kernels.language import (
    Code,
    DoublePointer,
    Integer,
    Pointer,
    Real,
    Vector,
    vector_at,
)
from experiments.kernels.machine import NUMBERS, compiled, lanes, over_threads

# A kernel as `compiled` returns it.
Kernel = Callable[..., Callable[[int, int], None]]


def fill_moments(
    code: Code,
    x: Pointer,
    means: DoublePointer,  # [channels]
    squares: DoublePointer,  # [channels]
    sums: DoublePointer,
    batch: Integer,
    channels: Integer,
    pixels: Integer,
    start: Integer,
    stop: Integer,
    *,
    ragged: int,
) -> None:
    """Mean of each channel in [start, stop), and sum of squares around it."""
    added = ChannelSums(code)
    with added.over_pixels(sums, batch, channels, pixels, start, stop) as (c, row):
        _add_row(code, x, added, x.broadcast(c * batch), row, batch, ragged)
    with code.loop(start, stop) as c:
        mean, square = _moments(x, sums_of(sums, c), c, batch, pixels)
        means.put(c, mean)
        squares.put(c, square)


def channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return each channel's mean, and its sum of squares around it, [members, channels] in double precision.

    x [members, ..., channels, batch], contiguous.
    """
    means, squares = torch.empty(2, len(x), x.shape[-2], dtype=torch.double)
    kernel = compiled(fill_moments, x.dtype, ragged=_ragged(x))
    _over_channels(kernel, {"x": x, "means": means, "squares": squares, "sums": no_sums(x)})
    return means, squares


def fill_statistics(
    code: Code,
    x: Pointer,
    weight: Pointer,  # [channels]
    bias: Pointer,  # [channels]
    running_mean: Pointer,  # [channels]
    running_var: Pointer,  # [channels]
    statistics: Pointer,
    sums: DoublePointer,
    momentum: Real,
    batch: Integer,
    channels: Integer,
    pixels: Integer,
    start: Integer,
    stop: Integer,
    *,
    ragged: int,
    eps: float,
) -> None:
    """Statistics of each channel in [start, stop); running statistics move."""
    added = ChannelSums(code)
    with added.over_pixels(sums, batch, channels, pixels, start, stop) as (c, row):
        _add_row(code, x, added, x.broadcast(c * batch), row, batch, ragged)
    with code.loop(start, stop) as c:
        moments = _moments(x, sums_of(sums, c), c, batch, pixels)
        _put_statistics(
            moments, weight, bias, running_mean, running_var, statistics, momentum, batch * pixels, c, eps
        )


def normalise_pixels(
    code: Code,
    x: Pointer,
    statistics: Pointer,
    y: Pointer,
    batch: Integer,
    channels: Integer,
    start: Integer,
    stop: Integer,
    *,
    relu: int,
) -> None:
    """y = scale[c] x + shift[c], for the pixels [start, stop)."""
    with code.loop(start, stop) as pixel, code.loop(0, channels) as c:
        _normalise_row(code, x, statistics, y, (pixel * channels + c) * batch, batch, c, relu)


def normalise_features(
    code: Code,
    x: Pointer,
    weight: Pointer,
    bias: Pointer,
    running_mean: Pointer,
    running_var: Pointer,
    statistics: Pointer,
    y: Pointer,
    momentum: Real,
    batch: Integer,
    start: Integer,
    stop: Integer,
    *,
    relu: int,
    ragged: int,
    eps: float,
) -> None:
    """Statistics and y = scale x + shift, for the features [start, stop); running statistics move."""
    sums = ChannelSums(code)
    with code.loop(start, stop) as c:
        sums.clear()
        _add_row(code, x, sums, x.broadcast(c * batch), c * batch, batch, ragged)
        moments = _moments(x, sums.values(), c, batch, code.integer(1))
        _put_statistics(moments, weight, bias, running_mean, running_var, statistics, momentum, batch, c, eps)
        _normalise_row(code, x, statistics, y, c * batch, batch, c, relu)


def batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running: tuple[Tensor, Tensor],
    momentum: float,
    eps: float,
    relu: bool,
) -> tuple[Tensor, Tensor]:
    """Return y = gamma (x - mean) / sqrt(var + eps) + beta and the statistics [members, channels, 4].

    x [members, ..., channels, batch], contiguous, is normalised by its own mean and biased variance.
    `running` are mean and variance [members, channels]; they move by `momentum`, the variance towards the
    unbiased one. `relu`: return max(0, y) in place of y.
    """
    y, statistics = torch.empty_like(x), torch.empty(*weight.shape, 4, dtype=x.dtype)
    running_mean, running_var = running
    ragged = _ragged(x)
    if x.dim() == 3:
        kernel = compiled(normalise_features, x.dtype, relu=int(relu), ragged=ragged, eps=eps)
        members, features, batch = x.shape
        work = kernel(
            x=x,
            weight=weight,
            bias=bias,
            running_mean=running_mean,
            running_var=running_var,
            statistics=statistics,
            y=y,
            momentum=momentum,
            batch=batch,
        )
        over_threads(members * features, work, batch / NUMBERS)
        return y, statistics
    arrays = {
        "x": x,
        "weight": weight,
        "bias": bias,
        "running_mean": running_mean,
        "running_var": running_var,
    }
    kernel = compiled(fill_statistics, x.dtype, ragged=ragged, eps=eps)
    _over_channels(kernel, arrays | {"statistics": statistics, "sums": no_sums(x)}, momentum=momentum)
    kernel = compiled(normalise_pixels, x.dtype, relu=int(relu))
    _over_pixels(kernel, {"x": x, "statistics": statistics, "y": y})
    return y, statistics


def normalise(x: Tensor, scale: Tensor, shift: Tensor, relu: bool) -> Tensor:
    """Return y = scale x + shift, scale and shift [members, channels]; `relu`: max(0, y).

    x [members, ..., channels, batch], contiguous.
    """
    statistics = torch.stack((scale, scale, scale, shift), -1)  # of which the kernel reads the last two
    if x.dim() == 3:  # features of all members follow one another
        pixels, statistics = x.view(1, 1, 1, -1, x.shape[-1]), statistics.view(1, -1, 4)
    else:
        pixels = x
    y = torch.empty_like(pixels)
    kernel = compiled(normalise_pixels, x.dtype, relu=int(relu))
    _over_pixels(kernel, {"x": pixels, "statistics": statistics, "y": y})
    return y.view(x.shape)


def fill_gradient_statistics(
    code: Code,
    grad: Pointer,
    x: Pointer,
    statistics: Pointer,
    grad_stats: Pointer,
    sums: DoublePointer,
    batch: Integer,
    channels: Integer,
    pixels: Integer,
    start: Integer,
    stop: Integer,
    *,
    relu: int,
    ragged: int,
) -> None:
    """Gradients of weight and bias, and slope and offset of that of x, for the channels [start, stop)."""
    added = ChannelSums(code)
    with added.over_pixels(sums, batch, channels, pixels, start, stop) as (c, row):
        _add_gradient_row(code, grad, x, statistics, added, c, row, batch, relu, ragged)
    with code.loop(start, stop) as c:
        _put_gradient_statistics(sums_of(sums, c), statistics, grad_stats, batch * pixels, c)


def gradient_pixels(
    code: Code,
    grad: Pointer,
    x: Pointer,
    statistics: Pointer,
    grad_stats: Pointer,
    other: Pointer,
    grad_x: Pointer,
    other_pixel: Integer,
    batch: Integer,
    channels: Integer,
    start: Integer,
    stop: Integer,
    *,
    relu: int,
    adds: int,
) -> None:
    """grad_x = scale[c] grad + slope[c] x + offset[c], for the pixels [start, stop).

    With `adds` plus `other`, which has `other_pixel` numbers from one pixel to the next.
    """
    arrays = grad, x, statistics, grad_stats, grad_x
    with code.loop(start, stop) as pixel, code.loop(0, channels) as c:
        added = other.at(pixel * other_pixel + c * batch) if adds else None
        _gradient_row(code, *arrays, (pixel * channels + c) * batch, batch, c, relu, added)


def gradient_features(
    code: Code,
    grad: Pointer,
    x: Pointer,
    statistics: Pointer,
    grad_stats: Pointer,
    grad_x: Pointer,
    batch: Integer,
    start: Integer,
    stop: Integer,
    *,
    relu: int,
    ragged: int,
) -> None:
    """Gradients of weight, bias and x, for the features [start, stop)."""
    sums = ChannelSums(code)
    with code.loop(start, stop) as c:
        sums.clear()
        _add_gradient_row(code, grad, x, statistics, sums, c, c * batch, batch, relu, ragged)
        _put_gradient_statistics(sums.values(), statistics, grad_stats, batch, c)
        _gradient_row(code, grad, x, statistics, grad_stats, grad_x, c * batch, batch, c, relu, None)


def batch_norm_gradient(
    grad: Tensor, x: Tensor, statistics: Tensor, relu: bool, other: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the gradient of x, and grad_stats [members, channels, 4], which begin with those of weight and bias.

    `grad` and x [members, ..., channels, batch], contiguous; `statistics` as `batch_norm` returns them. `other`:
    a gradient of images x from elsewhere, that is added; of each member the pixels follow one another evenly.
    """
    grad_stats, grad_x = torch.empty_like(statistics), torch.empty_like(x)
    ragged = _ragged(x)
    if x.dim() == 3:
        kernel = compiled(gradient_features, x.dtype, ragged=ragged, relu=int(relu))
        members, features, batch = x.shape
        work = kernel(
            grad=grad, x=x, statistics=statistics, grad_stats=grad_stats, grad_x=grad_x, batch=batch
        )
        over_threads(members * features, work, batch / NUMBERS)
        return grad_x if other is None else grad_x.add_(other), grad_stats
    arrays = {"grad": grad, "x": x, "statistics": statistics, "grad_stats": grad_stats}
    kernel = compiled(fill_gradient_statistics, x.dtype, ragged=ragged, relu=int(relu))
    _over_channels(kernel, arrays | {"sums": no_sums(x)})
    kernel = compiled(gradient_pixels, x.dtype, relu=int(relu), adds=int(other is not None))
    other = x if other is None else other
    _over_pixels(kernel, arrays | {"other": other, "grad_x": grad_x}, other_pixel=other.stride(2))
    return grad_x, grad_stats


def _add_row(
    code: Code,
    x: Pointer,
    sums: ChannelSums,
    first: Vector,
    row: Integer,
    batch: Integer,
    ragged: int,
) -> None:
    """Add the deviations from `first`, and their squares, of the numbers of a row, which begins at `row`."""
    total, square = sums.registers
    first = first.widened()
    with code.loop(0, batch, code.lanes) as number:
        sample, mask_tail = vector_at(batch, number, ragged)
        deviation = mask_tail(x.load(row + sample).widened() - first)
        total.set(total.get() + deviation)
        square.set(deviation.times_plus(deviation, square.get()))


def _moments(
    x: Pointer, sums: tuple[Vector, Vector], c: Integer, batch: Integer, pixels: Integer
) -> tuple[Real, Real]:
    """Mean of channel c and sum of squares around it, from sums around its first number."""
    sum_, square, count = sums[0].total(), sums[1].total(), (batch * pixels).real()
    return x.number(c * batch) + sum_ / count, square - sum_ * sum_ / count


def _put_statistics(
    moments: tuple[Real, Real],
    weight: Pointer,
    bias: Pointer,
    running_mean: Pointer,
    running_var: Pointer,
    statistics: Pointer,
    momentum: Real,
    count: Integer,
    c: Integer,
    eps: float,
) -> None:
    """Write the statistics of channel c, of so many numbers, and move its running ones."""
    mean, square = moments
    step = mean - running_mean.number(c)
    running_mean.put(c, running_mean.number(c) + step * momentum)
    step = square / (count.real() - 1.0) - running_var.number(c)
    running_var.put(c, running_var.number(c) + step * momentum)
    inverse_std = (square / count.real() + eps).root().inverse()
    scale = weight.number(c) * inverse_std
    for index, value in enumerate((mean, inverse_std, scale, bias.number(c) - mean * scale)):
        statistics.put(c * 4 + index, value)


def _add_gradient_row(
    code: Code,
    grad: Pointer,
    x: Pointer,
    statistics: Pointer,
    sums: ChannelSums,
    c: Integer,
    row: Integer,
    batch: Integer,
    relu: int,
    ragged: int,
) -> None:
    """Add g, and g (x - mean), of the numbers of a row of channel c, which begins at `row`."""
    total, product = sums.registers
    centre, scale, shift = (statistics.broadcast(c * 4 + index) for index in (0, 2, 3))
    with code.loop(0, batch, code.lanes) as number:
        sample, mask_tail = vector_at(batch, number, ragged)
        value = x.load(row + sample)
        g = mask_tail(_through_relu(grad.load(row + sample), value, scale, shift, relu)).widened()
        total.set(total.get() + g)
        product.set(g.times_plus(value.widened() - centre.widened(), product.get()))


def _put_gradient_statistics(
    sums: tuple[Vector, Vector], statistics: Pointer, grad_stats: Pointer, count: Integer, c: Integer
) -> None:
    """Write the gradients of channel c's weight and bias, and slope and offset of that of x.

    dL/dx = scale (g - mean of g - x^ mean of g x^) = scale g + slope x + offset, with x^ = (x - mean) / std.
    """
    mean, inverse_std, scale = (statistics.number(c * 4 + index) for index in range(3))
    grad_bias, grad_weight = sums[0].total(), sums[1].total() * inverse_std
    slope = scale * inverse_std * grad_weight / count.real() * -1.0
    offset = scale * grad_bias / count.real() * -1.0 - slope * mean
    for index, number in enumerate((grad_weight, grad_bias, slope, offset)):
        grad_stats.put(c * 4 + index, number)


def _normalise_row(
    code: Code,
    x: Pointer,
    statistics: Pointer,
    y: Pointer,
    row: Integer,
    batch: Integer,
    c: Integer,
    relu: int,
) -> None:
    """y = scale x + shift, of channel c of one pixel, which begins at `row`."""
    scale, shift = (statistics.broadcast(c * 4 + index) for index in (2, 3))
    with code.loop(0, batch, code.lanes) as number:
        place = row + number.at_most(batch - code.lanes)
        value = x.load(place).times_plus(scale, shift)
        y.store(place, value.where_positive(value) if relu else value)


def _gradient_row(
    code: Code,
    grad: Pointer,
    x: Pointer,
    statistics: Pointer,
    grad_stats: Pointer,
    grad_x: Pointer,
    row: Integer,
    batch: Integer,
    c: Integer,
    relu: int,
    added: Pointer | None,
) -> None:
    """grad_x = scale grad + slope x + offset (+ added), of channel c of one pixel, which begins at `row`."""
    scale, shift = (statistics.broadcast(c * 4 + index) for index in (2, 3))
    slope, offset = (grad_stats.broadcast(c * 4 + index) for index in (2, 3))
    with code.loop(0, batch, code.lanes) as number:
        sample = number.at_most(batch - code.lanes)
        value = x.load(row + sample)
        g = _through_relu(grad.load(row + sample), value, scale, shift, relu)
        result = g.times_plus(scale, value.times_plus(slope, offset))
        grad_x.store(row + sample, result if added is None else result + added.load(sample))


def _through_relu(grad: Vector, x: Vector, scale: Vector, shift: Vector, relu: int) -> Vector:
    return grad.where_positive(x.times_plus(scale, shift)) if relu else grad


def _ragged(x: Tensor) -> int:
    return int(x.shape[-1] % lanes(x.dtype) > 0)


def _over_channels(kernel: Kernel, arrays: Mapping[str, Tensor], **numbers: float) -> None:
    """Call a kernel of channels with each member's arrays, of which x is [..., channels, batch], and numbers."""
    *space, channels, batch = arrays["x"].shape[1:]
    pixels = math.prod(space)
    # Of a single pixel, the channels of all members follow one another.
    if not space:
        channels *= len(arrays["x"])
        arrays = {name: array[None] for name, array in arrays.items()}
    for parts in _members(arrays):
        work = kernel(**parts, **numbers, batch=batch, channels=channels, pixels=pixels)
        over_threads(channels, work, pixels * batch / NUMBERS)


def _over_pixels(kernel: Kernel, arrays: Mapping[str, Tensor], **numbers: float) -> None:
    """Call a kernel of pixels with each member's arrays, x [height, width, channels, batch], and numbers."""
    _, height, width, channels, batch = arrays["x"].shape
    for parts in _members(arrays):
        work = kernel(**parts, **numbers, batch=batch, channels=channels)
        over_threads(height * width, work, channels * batch / NUMBERS)


def _members(arrays: Mapping[str, Tensor]) -> Sequence[Mapping[str, Tensor]]:
    """Each member's part of arrays [members, ...]; a single member's begins where they begin."""
    if len(arrays["x"]) == 1:
        return [arrays]
    parts = zip(*(array.unbind() for array in arrays.values()), strict=True)
    return [dict(zip(arrays, part, strict=True)) for part in parts]
