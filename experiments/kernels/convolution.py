"""Convolutions of images that lie in memory as [height, width, channels, batch].

The batch fills the vectors: however few channels there are, no lane is idle, and a weight is one number for all
lanes. A tile of the output is summed in registers, of some channels and some vectors of the batch. A batch that
is no whole number of tiles has its last tile overlap the one before.
"""

from experiments.kernels.code import Code
from experiments.kernels.values import Integer, Pointer, vector_at


def correlate(
    code: Code,
    x: Pointer,  # [height, width, ..., batch], from one pixel to the next `pixel` numbers
    weight: Pointer,  # [groups, blocks, taps_y, taps_x, channels, outputs]
    y: Pointer,
    batch: Integer,
    groups: Integer,
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
    y_group: Integer,
    start: Integer,
    stop: Integer,
    *,
    outputs: int,
    vectors: int,
) -> None:
    """y[i, j, o] = sum over channels c and taps (p, q) of weight[p, q, c, o] x[i stride + first_y + p, ..., c].

    For rows i in [start, stop) and all columns j; where a tap falls outside the image, x is 0. From one row of y
    to the next there are `y_row` numbers, from one pixel to the next `y_pixel`. Of each group, that reads its own
    `channels` of x and has `y_group` of y, `blocks` tiles are filled, of `outputs` channels by `vectors`.
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
                with code.loop(0, groups) as group, code.loop(0, blocks) as block:
                    for row in sums:
                        for total in row:
                            total.clear()
                    with code.loop(tap_start, tap_stop) as p, code.loop(tap_left, tap_right) as q:
                        read = ((top + p) * width + left + q) * pixel + group * channels * batch + sample
                        factors = (((group * blocks + block) * taps_y + p) * taps_x + q) * filter_size
                        with code.loop(0, channels) as c:
                            seen = [x.load(read + c * batch + v * code.lanes) for v in range(vectors)]
                            for o in range(outputs):
                                factor = weight.broadcast(factors + c * outputs + o)
                                for v in range(vectors):
                                    sums[o][v].set(seen[v].times_plus(factor, sums[o][v].get()))
                    channel = group * y_group + block * outputs
                    written = i * y_row + j * y_pixel + channel * batch + sample
                    for o in range(outputs):
                        for v in range(vectors):
                            y.store(written + o * batch + v * code.lanes, sums[o][v].get())


def weight_gradient(
    code: Code,
    x: Pointer,
    grad: Pointer,
    zeros: Pointer,  # [inputs, batch]
    sums: Pointer,  # [output blocks, groups, taps, input blocks, outputs, inputs, taps, lanes]
    batch: Integer,
    groups: Integer,
    grad_group: Integer,
    x_group: Integer,
    x_pixel: Integer,
    height: Integer,
    width: Integer,
    grad_pixel: Integer,
    rows: Integer,
    columns: Integer,
    stride: Integer,
    padding: Integer,
    input_blocks: Integer,
    rows_together: Integer,
    columns_together: Integer,
    start: Integer,
    stop: Integer,
    *,
    outputs: int,
    inputs: int,
    taps: int,
    ragged: int,
) -> None:
    """Add to sums[p, o, c, q], lane by lane, the sum over pixels of grad[i, j, o] x[i stride + p - padding, ...].

    For the blocks [start, stop) of `outputs` channels of `grad`, and all of `inputs` channels of x, of each group:
    such a tile, with all taps q of a row, is summed in registers, over so many neighbouring rows and columns at a
    time, which caches hold until all tiles are done. `ragged`: the batch is no whole number of vectors.
    """
    tile = [code.registers(inputs, taps) for _ in range(outputs)]
    order = [(o, c, q) for o in range(outputs) for c in range(inputs) for q in range(taps)]
    with (
        code.loop(0, rows, rows_together) as top,
        code.loop(0, taps) as p,
        code.loop(0, columns, columns_together) as left,
        code.loop(0, groups) as group,
        code.loop(start, stop) as o_block,
        code.loop(0, input_blocks) as c_block,
    ):
        block = ((o_block * groups + group) * taps + p) * input_blocks + c_block
        place = sums.at(block * (len(order) * code.lanes))
        for index, (o, c, q) in enumerate(order):
            tile[o][c][q].set(place.load(index * code.lanes))
        # The rows i whose input row i stride + p - padding is inside the image.
        first = ((stride - 1 + padding - p) // stride).at_least(top)
        last = ((height + padding - p + stride - 1) // stride).at_most(rows).at_most(top + rows_together)
        right = (left + columns_together).at_most(columns)
        with code.loop(first, last) as i, code.loop(left, right) as j:
            row = x.at(
                (i * stride + p - padding) * width * x_pixel + (group * x_group + c_block * inputs) * batch
            )
            seen = []
            for q in range(taps):
                column = j * stride + q - padding
                seen.append(row.at(column * x_pixel).if_within(column, width, zeros))
            channel = group * grad_group + o_block * outputs
            arrived = grad.at((i * columns + j) * grad_pixel + channel * batch)
            with code.loop(0, batch, code.lanes) as number:
                sample, uncounted = vector_at(batch, number, ragged)
                factors = [uncounted(arrived.load(o * batch + sample)) for o in range(outputs)]
                for c in range(inputs):
                    for q in range(taps):
                        value = seen[q].load(c * batch + sample)
                        for o in range(outputs):
                            tile[o][c][q].set(value.times_plus(factors[o], tile[o][c][q].get()))
        for index, (o, c, q) in enumerate(order):
            place.store(index * code.lanes, tile[o][c][q].get())
