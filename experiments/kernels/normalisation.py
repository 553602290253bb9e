"""Batch normalisation of what lies in memory as [pixels, channels, batch], and a ReLU behind it.

Sums are in double precision. With `relu` kernels are about max(0, y) in place of y = scale x + shift. `ragged`:
the batch is no whole number of vectors, and the last overlaps the one before.
"""

from experiments.kernels.code import Code
from experiments.kernels.storage import DoublePointer, Pointer, Register, vector_at
from experiments.kernels.values import Integer, Real, Vector


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
    weight: Pointer,  # [channels], and so are the next three
    bias: Pointer,
    running_mean: Pointer,
    running_var: Pointer,
    statistics: Pointer,  # [channels, 4]: mean, inverse_std, scale, shift
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
        for index, value in enumerate((centre, inverse, factor, bias.number(c) - centre * factor)):
            statistics.put(c * 4 + index, value)


def normalise(
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
        normalise_row(code, x, statistics, y, (pixel * channels + c) * batch, batch, c, relu)


def gradient_statistics(
    code: Code,
    grad: Pointer,
    x: Pointer,
    statistics: Pointer,
    made: Pointer,  # [channels, 4]: grad_weight, grad_bias, slope, offset
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
        centre, scale, shift = (statistics.broadcast(c * 4 + index) for index in (0, 2, 3))
        total.clear()
        product.clear()
        with code.loop(0, pixels) as pixel, code.loop(0, batch, code.lanes) as number:
            sample, uncounted = vector_at(batch, number, ragged)
            place = (pixel * channels + c) * batch + sample
            seen = x.load(place)
            arrived = uncounted(_through_relu(grad.load(place), seen, scale, shift, relu)).widened()
            total.set(total.get() + arrived)
            product.set(arrived.times_plus(seen.widened() - centre.widened(), product.get()))
        mean, inverse_std, factor = (statistics.number(c * 4 + index) for index in range(3))
        of_bias, of_weight = total.get().total(), product.get().total() * inverse_std
        tilt = factor * inverse_std * of_weight / count * -1.0
        for index, value in enumerate(
            (of_weight, of_bias, tilt, factor * of_bias / count * -1.0 - tilt * mean)
        ):
            made.put(c * 4 + index, value)


def input_gradient(
    code: Code,
    grad: Pointer,
    x: Pointer,
    statistics: Pointer,
    made: Pointer,
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
        gradient_row(code, grad, x, statistics, made, grad_x, (pixel * channels + c) * batch, batch, c, relu)


def normalise_row(
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


def gradient_row(
    code: Code,
    grad: Pointer,
    x: Pointer,
    statistics: Pointer,
    made: Pointer,
    grad_x: Pointer,
    row: Integer,
    batch: Integer,
    c: Integer,
    relu: int,
) -> None:
    """grad_x = scale grad + slope x + offset, of channel c of one pixel, which begins at `row`."""
    scale, shift = (statistics.broadcast(c * 4 + index) for index in (2, 3))
    slope, offset = (made.broadcast(c * 4 + index) for index in (2, 3))
    with code.loop(0, batch, code.lanes) as number:
        place = row + number.at_most(batch - code.lanes)
        seen = x.load(place)
        arrived = _through_relu(grad.load(place), seen, scale, shift, relu)
        grad_x.store(place, arrived.times_plus(scale, seen.times_plus(slope, offset)))


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
