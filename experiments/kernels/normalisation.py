"""Batch normalisation of images that lie in memory as [height, width, channels, batch], and a ReLU behind it.

Sums are in double precision. With `relu` kernels are about max(0, y) in place of y = scale x + shift. `ragged`:
the batch is no whole number of vectors, and the last overlaps the one before.
"""

from experiments.kernels.code import Code
from experiments.kernels.values import (
    DoublePointer,
    Integer,
    Pointer,
    Real,
    Register,
    Vector,
    vector_at,
)


def channel_moments(
    code: Code,
    x: Pointer,
    means: DoublePointer,  # [channels], and so is squares
    squares: DoublePointer,
    batch: Integer,
    channels: Integer,
    pixels: Integer,
    start: Integer,
    stop: Integer,
    *,
    ragged: int,
) -> None:
    """Mean of each channel in [start, stop), and sum of squares around it."""
    with code.loop(start, stop) as c:
        mean, square = _moments(code, x, c, batch, channels, pixels, ragged)
        means.put(c, mean)
        squares.put(c, square)


def batch_statistics(
    code: Code,
    x: Pointer,
    weight: Pointer,  # [channels], and so is all that follows
    bias: Pointer,
    running_mean: Pointer,
    running_var: Pointer,
    mean: Pointer,
    inverse_std: Pointer,
    scale: Pointer,
    shift: Pointer,
    batch: Integer,
    channels: Integer,
    pixels: Integer,
    start: Integer,
    stop: Integer,
    *,
    ragged: int,
    momentum: float,
    eps: float,
) -> None:
    """What normalises each channel in [start, stop), y = scale x + shift; running statistics move."""
    count = (batch * pixels).real()
    with code.loop(start, stop) as c:
        centre, square = _moments(code, x, c, batch, channels, pixels, ragged)
        moved = centre - running_mean.number(c)
        running_mean.put(c, running_mean.number(c) + moved * momentum)
        moved = square / (count - 1.0) - running_var.number(c)
        running_var.put(c, running_var.number(c) + moved * momentum)
        inverse = (square / count + eps).root().inverse()
        factor = weight.number(c) * inverse
        mean.put(c, centre)
        inverse_std.put(c, inverse)
        scale.put(c, factor)
        shift.put(c, bias.number(c) - centre * factor)


def normalise(
    code: Code,
    x: Pointer,
    scale: Pointer,  # [channels], and so is shift
    shift: Pointer,
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
        factor, added, row = scale.broadcast(c), shift.broadcast(c), (pixel * channels + c) * batch
        with code.loop(0, batch, code.lanes) as number:
            place = row + number.at_most(batch - code.lanes)
            value = x.load(place).times_plus(factor, added)
            y.store(place, value.where_positive(value) if relu else value)


def gradient_statistics(
    code: Code,
    grad: Pointer,
    x: Pointer,
    mean: Pointer,  # [channels], and so is all that follows
    inverse_std: Pointer,
    scale: Pointer,
    shift: Pointer,
    grad_weight: Pointer,
    grad_bias: Pointer,
    slope: Pointer,
    offset: Pointer,
    batch: Integer,
    channels: Integer,
    pixels: Integer,
    start: Integer,
    stop: Integer,
    *,
    relu: int,
    ragged: int,
) -> None:
    """Gradients of weight and bias, and what makes that of x, for the channels [start, stop).

    dL/dx = scale (g - mean of g - x^ mean of g x^) = scale g + slope x + offset, with x^ = (x - mean) / std.
    """
    total, product = Register(code, wide=True), Register(code, wide=True)
    count = (batch * pixels).real()
    with code.loop(start, stop) as c:
        centre, factor, added = mean.broadcast(c).widened(), scale.broadcast(c), shift.broadcast(c)
        total.clear()
        product.clear()
        with code.loop(0, pixels) as pixel, code.loop(0, batch, code.lanes) as number:
            sample, uncounted = vector_at(batch, number, ragged)
            place = (pixel * channels + c) * batch + sample
            seen = x.load(place)
            arrived = uncounted(_through_relu(grad.load(place), seen, factor, added, relu)).widened()
            total.set(total.get() + arrived)
            product.set(arrived.times_plus(seen.widened() - centre, product.get()))
        of_bias, of_weight = total.get().total(), product.get().total() * inverse_std.number(c)
        tilt = scale.number(c) * inverse_std.number(c) * of_weight / count * -1.0
        grad_weight.put(c, of_weight)
        grad_bias.put(c, of_bias)
        slope.put(c, tilt)
        offset.put(c, scale.number(c) * of_bias / count * -1.0 - tilt * mean.number(c))


def input_gradient(
    code: Code,
    grad: Pointer,
    x: Pointer,
    scale: Pointer,  # [channels], and so are the next three
    shift: Pointer,
    slope: Pointer,
    offset: Pointer,
    grad_x: Pointer,
    batch: Integer,
    channels: Integer,
    start: Integer,
    stop: Integer,
    *,
    relu: int,
) -> None:
    """grad_x = scale[c] grad + slope[c] x + offset[c], for the pixels [start, stop)."""
    with code.loop(start, stop) as pixel, code.loop(0, channels) as c:
        factor, added = scale.broadcast(c), shift.broadcast(c)
        tilt, constant, row = slope.broadcast(c), offset.broadcast(c), (pixel * channels + c) * batch
        with code.loop(0, batch, code.lanes) as number:
            place = row + number.at_most(batch - code.lanes)
            seen = x.load(place)
            arrived = _through_relu(grad.load(place), seen, factor, added, relu)
            grad_x.store(place, arrived.times_plus(factor, seen.times_plus(tilt, constant)))


def _moments(
    code: Code, x: Pointer, c: Integer, batch: Integer, channels: Integer, pixels: Integer, ragged: int
) -> tuple[Real, Real]:
    """Mean of channel c and sum of squares around it, from sums around its first value."""
    total, square = Register(code, wide=True), Register(code, wide=True)
    total.clear()
    square.clear()
    first = x.broadcast(c * batch).widened()
    with code.loop(0, pixels) as pixel, code.loop(0, batch, code.lanes) as number:
        sample, uncounted = vector_at(batch, number, ragged)
        off = uncounted(x.load((pixel * channels + c) * batch + sample).widened() - first)
        total.set(total.get() + off)
        square.set(off.times_plus(off, square.get()))
    sum_, count = total.get().total(), (batch * pixels).real()
    return x.number(c * batch) + sum_ / count, square.get().total() - sum_ * sum_ / count


def _through_relu(grad: Vector, x: Vector, scale: Vector, shift: Vector, relu: int) -> Vector:
    return grad.where_positive(x.times_plus(scale, shift)) if relu else grad
