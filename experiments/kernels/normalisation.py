"""Batch normalisation of images that lie in memory as [height, width, channels, batch], and a ReLU behind it.

Each kernel goes once through memory, over the pixels [start, stop); a row is a channel's batch at one pixel. With
`relu` they are about max(0, y) in the place of y = scale x + shift. `ragged`: the batch is no whole number of
vectors, and the last overlaps the one before.
"""

from experiments.kernels.code import Code, Integer, Pointer, Register, Vector, vector_at


def row_moments(
    code: Code,
    x: Pointer,
    centres: Pointer,  # [pixels, channels], and so are the next two
    sums: Pointer,
    squares: Pointer,
    batch: Integer,
    channels: Integer,
    start: Integer,
    stop: Integer,
    *,
    ragged: int,
) -> None:
    """Sums of x - centre and of (x - centre)^2 over each row, whose centre is its mean but for rounding."""
    total, square = Register(code), Register(code)
    with code.loop(start * channels, stop * channels) as row:
        values = x.at(row * batch)
        total.set(code.constant(0.0))
        with code.loop(0, batch, code.lanes) as number:
            sample, uncounted = vector_at(batch, number, ragged)
            total.set(total.get() + uncounted(values.load(sample)))
        centre = total.get().average(batch)
        for register in (total, square):
            register.set(code.constant(0.0))
        with code.loop(0, batch, code.lanes) as number:
            sample, uncounted = vector_at(batch, number, ragged)
            off = uncounted(values.load(sample) - centre)
            total.set(total.get() + off)
            square.set(off.times_plus(off, square.get()))
        centres.store_one(row, centre)
        sums.store_total(row, total.get())
        squares.store_total(row, square.get())


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
    """y = scale[c] x + shift[c]."""
    with code.loop(start, stop) as pixel, code.loop(0, channels) as c:
        factor, added, row = scale.broadcast(c), shift.broadcast(c), (pixel * channels + c) * batch
        with code.loop(0, batch, code.lanes) as number:
            place = row + number.at_most(batch - code.lanes)
            value = x.load(place).times_plus(factor, added)
            y.store(place, value.where_positive(value) if relu else value)


def gradient_sums(
    code: Code,
    grad: Pointer,
    x: Pointer,
    mean: Pointer,  # [channels], and so are scale and shift
    scale: Pointer,
    shift: Pointer,
    sums: Pointer,
    products: Pointer,
    batch: Integer,
    channels: Integer,
    start: Integer,
    stop: Integer,
    *,
    relu: int,
    ragged: int,
) -> None:
    """sums[pixel, c] = sum of grad over the batch; products[pixel, c] = sum of grad (x - mean[c])."""
    total, product = Register(code), Register(code)
    with code.loop(start, stop) as pixel, code.loop(0, channels) as c:
        row, centre = pixel * channels + c, mean.broadcast(c)
        factor, added = scale.broadcast(c), shift.broadcast(c)
        for register in (total, product):
            register.set(code.constant(0.0))
        with code.loop(0, batch, code.lanes) as number:
            sample, uncounted = vector_at(batch, number, ragged)
            seen = x.load(row * batch + sample)
            arrived = uncounted(_through_relu(grad.load(row * batch + sample), seen, factor, added, relu))
            total.set(total.get() + arrived)
            product.set(arrived.times_plus(seen - centre, product.get()))
        sums.store_total(row, total.get())
        products.store_total(row, product.get())


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
    """grad_x = scale[c] grad + slope[c] x + offset[c]."""
    with code.loop(start, stop) as pixel, code.loop(0, channels) as c:
        factor, added = scale.broadcast(c), shift.broadcast(c)
        tilt, constant, row = slope.broadcast(c), offset.broadcast(c), (pixel * channels + c) * batch
        with code.loop(0, batch, code.lanes) as number:
            place = row + number.at_most(batch - code.lanes)
            seen = x.load(place)
            arrived = _through_relu(grad.load(place), seen, factor, added, relu)
            grad_x.store(place, arrived.times_plus(factor, seen.times_plus(tilt, constant)))


def _through_relu(grad: Vector, x: Vector, scale: Vector, shift: Vector, relu: int) -> Vector:
    return grad.where_positive(x.times_plus(scale, shift)) if relu else grad
