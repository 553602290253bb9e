"""Convolutions of images that lie in memory as [height, width, channels, batch].

The batch fills the vectors: however few channels there are, no lane is idle, and a weight is one number for all
lanes. A tile of the output is summed in registers, of some channels and some vectors of the batch. A batch that
is no whole number of tiles has its last tile overlap the one before.
"""

from experiments.kernels.code import Code
from experiments.kernels.storage import Pointer
from experiments.kernels.sums import Sums
from experiments.kernels.values import Integer


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
    by_tap: int,
) -> None:
    """y[i, j, o] = sum over channels c and taps (p, q) of weight[p, q, c, o] x[i stride + first_y + p, ..., c].

    For rows i in [start, stop) and all columns j; where a tap falls outside the image, x is 0. From one row of y
    to the next there are `y_row` numbers, from one pixel to the next `y_pixel`. Of each group, that reads its own
    `channels` of x and has `y_group` of y, `blocks` tiles are filled, of `outputs` channels by `vectors`: one
    after the other, or with `by_tap` all of them tap by tap, which then read the same of x.
    """
    sums, size = Sums(code, outputs, vectors), vectors * code.lanes
    with code.loop(start, stop) as i, code.loop(0, batch, size) as number, code.loop(0, columns) as j:
        top, left, sample = i * stride + first_y, j * stride + first_x, number.at_most(batch - size)
        inside_y = (0 - top).at_least(0), (height - top).at_most(taps_y)
        inside_x = (0 - left).at_least(0), (width - left).at_most(taps_x)

        def tile(group: Integer, block: Integer) -> Pointer:
            return y.at(i * y_row + j * y_pixel + (group * y_group + block * outputs) * batch + sample)

        def add_tap(group: Integer, block: Integer, p: Integer, q: Integer) -> None:
            read = x.at(((top + p) * width + left + q) * pixel + group * channels * batch + sample)
            filters = (((group * blocks + block) * taps_y + p) * taps_x + q) * (channels * outputs)
            sums.add_products(weight.at(filters), 1, outputs, read, batch, channels)

        if by_tap:
            sums.clear()
            with code.loop(0, groups) as group, code.loop(0, blocks) as block:
                sums.store(tile(group, block), batch)
            with (
                code.loop(*inside_y) as p,
                code.loop(*inside_x) as q,
                code.loop(0, groups) as group,
                code.loop(0, blocks) as block,
            ):
                sums.load(tile(group, block), batch)
                add_tap(group, block, p, q)
                sums.store(tile(group, block), batch)
        else:
            with code.loop(0, groups) as group, code.loop(0, blocks) as block:
                sums.clear()
                with code.loop(*inside_y) as p, code.loop(*inside_x) as q:
                    add_tap(group, block, p, q)
                sums.store(tile(group, block), batch)
