"""Gradients of a convolution's weight, of images that lie in memory as [height, width, channels, batch].

Of few channels vectors hold samples: no lane is idle, but the lanes are to be summed at the end, and until then a
sum takes as much memory as a vector. Of many they hold channels, for which x is to be transposed.
"""

from experiments.kernels.code import Code
from experiments.kernels.storage import Pointer, vector_at
from experiments.kernels.sums import Sums
from experiments.kernels.values import Integer


def sum_samples(
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

    Lanes are samples. For the blocks [start, stop) of `outputs` channels of `grad`, and all of `inputs` channels
    of x, of each group: such a tile, with all taps q of a row, is summed in registers, over so many neighbouring
    columns at a time, which caches hold until all tiles are done. `ragged`: the batch is no whole number of
    vectors.
    """
    tile = [code.registers(inputs, taps) for _ in range(outputs)]
    order = [(o, c, q) for o in range(outputs) for c in range(inputs) for q in range(taps)]
    with (
        code.loop(0, rows) as i,
        code.loop((padding - i * stride).at_least(0), (height + padding - i * stride).at_most(taps)) as p,
        code.loop(0, columns, columns_together) as left,
        code.loop(0, groups) as group,
        code.loop(start, stop) as o_block,
        code.loop(0, input_blocks) as c_block,
    ):
        block = ((o_block * groups + group) * taps + p) * input_blocks + c_block
        place = sums.at(block * (len(order) * code.lanes))
        for index, (o, c, q) in enumerate(order):
            tile[o][c][q].set(place.load(index * code.lanes))
        with code.loop(left, (left + columns_together).at_most(columns)) as j:
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


def sum_channels(
    code: Code,
    x: Pointer,  # [height, width, panels, batch, channels of a panel]
    grad: Pointer,
    sums: Pointer,  # [panels, blocks, taps, taps, outputs, channels of a panel]
    batch: Integer,
    panels: Integer,
    height: Integer,
    width: Integer,
    channels: Integer,
    rows: Integer,
    columns: Integer,
    stride: Integer,
    padding: Integer,
    taps: Integer,
    blocks: Integer,
    start: Integer,
    stop: Integer,
    *,
    outputs: int,
    vectors: int,
) -> None:
    """Add to sums[p, q, o, c] the sum over pixels of grad[i, j, o] x[i stride + p - padding, ..., c].

    Lanes are channels. For the blocks [start, stop) of `outputs` of the `channels` of `grad`; the last overlaps
    the one before. What a pixel adds is summed in registers first, as rounding asks for.
    """
    size = vectors * code.lanes
    made = Sums(code, outputs, vectors)
    with code.loop(0, rows) as i, code.loop(0, columns) as j:
        top, left = i * stride - padding, j * stride - padding
        with (
            code.loop((0 - top).at_least(0), (height - top).at_most(taps)) as p,
            code.loop((0 - left).at_least(0), (width - left).at_most(taps)) as q,
            code.loop(0, panels) as panel,
            code.loop(start, stop) as block,
        ):
            read = x.at((((top + p) * width + left + q) * panels + panel) * batch * size)
            channel = (block * outputs).at_most(channels - outputs)
            arrived = grad.at(((i * columns + j) * channels + channel) * batch)
            made.clear()
            made.add_products(arrived, batch, 1, read, size, batch)
            place = (((panel * blocks + block) * taps + p) * taps + q) * (outputs * size)
            made.add_to(sums.at(place), size)
