"""Convolutions of images that lie in memory as [height, width, channels, batch].

The batch fills the vectors: however few channels there are, no lane is idle, and a weight is one number for all
lanes. A tile of the output is summed in registers, of some channels and some vectors of the batch. A batch that
is no whole number of tiles has its last tile overlap the one before.
"""

from experiments.kernels.code import Code, Integer, Pointer


def correlate(
    code: Code,
    x: Pointer,  # [height, width, ..., batch], from one pixel to the next `pixel` numbers
    weight: Pointer,  # [outputs / tile_outputs, taps_y, taps_x, channels, tile_outputs]
    y: Pointer,
    batch: Integer,
    channels: Integer,
    pixel: Integer,
    height: Integer,
    width: Integer,
    blocks: Integer,
    columns: Integer,
    stride: Integer,
    first_y: Integer,
    first_x: Integer,
    taps_y: Integer,
    taps_x: Integer,
    y_row: Integer,
    y_pixel: Integer,
    start: Integer,
    stop: Integer,
    *,
    outputs: int,
    vectors: int,
) -> None:
    """y[i, j, o] = sum over channels c and taps (p, q) of weight[p, q, c, o] x[i stride + first_y + p, ..., c].

    For rows i in [start, stop) and all columns j; where a tap falls outside the image, x is 0. From one row of y
    to the next there are `y_row` numbers, from one pixel to the next `y_pixel`. `outputs` and `vectors` are the
    tile's.
    """
    sums = code.registers(outputs, vectors)
    filter_size = channels * outputs
    with code.loop(start, stop) as i:
        top = i * stride + first_y
        tap_start, tap_stop = (0 - top).at_least(0), (height - top).at_most(taps_y)
        with code.loop(0, batch, vectors * code.lanes) as number:
            sample = number.at_most(batch - vectors * code.lanes)
            with code.loop(0, columns) as j:
                left = j * stride + first_x
                tap_left, tap_right = (0 - left).at_least(0), (width - left).at_most(taps_x)
                with code.loop(0, blocks) as block:
                    for row in sums:
                        for total in row:
                            total.set(code.constant(0.0))
                    with code.loop(tap_start, tap_stop) as p, code.loop(tap_left, tap_right) as q:
                        read = ((top + p) * width + left + q) * pixel + sample
                        factors = ((block * taps_y + p) * taps_x + q) * filter_size
                        with code.loop(0, channels) as c:
                            seen = [x.load(read + c * batch + v * code.lanes) for v in range(vectors)]
                            for o in range(outputs):
                                factor = weight.broadcast(factors + c * outputs + o)
                                for v in range(vectors):
                                    sums[o][v].set(seen[v].times_plus(factor, sums[o][v].get()))
                    written = i * y_row + j * y_pixel + block * outputs * batch + sample
                    for o in range(outputs):
                        for v in range(vectors):
                            y.store(written + o * batch + v * code.lanes, sums[o][v].get())


def weight_gradient(
    code: Code,
    x: Pointer,
    grad: Pointer,
    sums: Pointer,  # [output blocks, taps, taps, input blocks, outputs, inputs, lanes]
    batch: Integer,
    x_pixel: Integer,
    height: Integer,
    width: Integer,
    grad_pixel: Integer,
    rows: Integer,
    columns: Integer,
    stride: Integer,
    padding: Integer,
    taps: Integer,
    input_blocks: Integer,
    together: Integer,
    start: Integer,
    stop: Integer,
    *,
    outputs: int,
    inputs: int,
    ragged: int,
) -> None:
    """Add to sums[p, q, o, c], lane by lane, the sum over pixels of grad[i, j, o] x[i stride + p - padding, ...].

    For the blocks [start, stop) of `outputs` channels of `grad`, and all of `inputs` channels of x: such a tile is
    summed in registers, over `together` neighbouring pixels, which the nearest cache holds until all tiles are
    done. `ragged`: the batch is no whole number of vectors.
    """
    tile = code.registers(outputs, inputs)
    with code.loop(0, rows) as i:
        first_tap, last_tap = (
            (padding - i * stride).at_least(0),
            (height + padding - i * stride).at_most(taps),
        )
        with code.loop(first_tap, last_tap) as p, code.loop(0, taps) as q:
            # The columns j whose input column j stride + q - padding is inside the image.
            left = ((stride - 1 + padding - q) // stride).at_least(0)
            right = ((width + padding - q + stride - 1) // stride).at_most(columns)
            with code.loop(left, right, together) as group:
                group_end = (group + together).at_most(right)
                with code.loop(start, stop) as o_block, code.loop(0, input_blocks) as c_block:
                    block = ((o_block * taps + p) * taps + q) * input_blocks + c_block
                    place = block * (outputs * inputs * code.lanes)
                    for o in range(outputs):
                        for c in range(inputs):
                            tile[o][c].set(sums.load(place + (o * inputs + c) * code.lanes))
                    with code.loop(group, group_end) as j:
                        grads = (i * columns + j) * grad_pixel + o_block * outputs * batch
                        pixel = (i * stride + p - padding) * width + j * stride + q - padding
                        reads = pixel * x_pixel + c_block * inputs * batch
                        with code.loop(0, batch, code.lanes) as number:
                            sample = number.at_most(batch - code.lanes) if ragged else number
                            seen = [x.load(reads + c * batch + sample) for c in range(inputs)]
                            for o in range(outputs):
                                factor = grad.load(grads + o * batch + sample)
                                if ragged:  # lanes that the vector before has counted
                                    factor = factor.from_lane(number - sample)
                                for c in range(inputs):
                                    tile[o][c].set(seen[c].times_plus(factor, tile[o][c].get()))
                    for o in range(outputs):
                        for c in range(inputs):
                            sums.store(place + (o * inputs + c) * code.lanes, tile[o][c].get())
