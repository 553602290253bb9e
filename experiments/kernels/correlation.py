"""Correlation of images with weights: a convolution forward, and the gradient of its input.

Images of one member lie in memory as [height, width, channels, batch]. The batch fills the vectors: however
few channels there are, no lane is idle, and a weight is one number for all lanes. A tile of the output is
summed in registers, of some channels and some vectors of the batch. A batch that is no whole number of tiles
has its last tile overlap the one before.
"""

from torch import Tensor

from experiments.kernels.language import Code, Integer, Pointer
from experiments.kernels.machine import PRODUCTS, accumulators, compiled, lanes, over_threads
from experiments.kernels.tiles import Sums, even_tiles, tile_vectors

# By measurement: from so many channels on the taps of a tile are more than the nearer caches hold.
MANY_CHANNELS = 240


def fill_rows(
    code: Code,
    x: Pointer,  # [height, width, ..., batch]
    weight: Pointer,  # [groups, blocks, taps_y, taps_x, channels, outputs]
    other: Pointer,
    y: Pointer,
    batch: Integer,
    groups: Integer,
    channels: Integer,
    x_pixel: Integer,
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
    adds: int,
) -> None:
    """y[i, j, o] = sum over channels c and taps (p, q) of weight[p, q, c, o] x[i stride + first_y + p, ..., c].

    With `adds`, which goes with no `by_tap`, plus other[i, j, o], which lies as y does.

    For rows i in [start, stop) and all columns j; where a tap falls outside the image, x is 0. From one pixel
    of x to the next there are `x_pixel` numbers, from one of y `y_pixel`, from one row of y `y_row`. Of each
    group, that reads its own `channels` of x and has `y_group` of y, `blocks` tiles are filled, of `outputs`
    channels by `vectors`: one after the other, or with `by_tap` all of them tap by tap, which then read the
    same of x.
    """
    sums, size = Sums(code, outputs, vectors), vectors * code.lanes
    with code.loop(start, stop) as i, code.loop(0, batch, size) as number, code.loop(0, columns) as j:
        top, left, sample = i * stride + first_y, j * stride + first_x, number.at_most(batch - size)
        inside_y = (0 - top).at_least(0), (height - top).at_most(taps_y)
        inside_x = (0 - left).at_least(0), (width - left).at_most(taps_x)

        def tile(group: Integer, block: Integer, of: Pointer = y) -> Pointer:
            return of.at(i * y_row + j * y_pixel + (group * y_group + block * outputs) * batch + sample)

        def add_tap(group: Integer, block: Integer, p: Integer, q: Integer) -> None:
            pixel = x.at(((top + p) * width + left + q) * x_pixel + group * channels * batch + sample)
            filters = (((group * blocks + block) * taps_y + p) * taps_x + q) * (channels * outputs)
            sums.add_products(weight.at(filters), 1, outputs, pixel, batch, channels)

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
                if adds:
                    sums.add(tile(group, block, other), batch)
                sums.store(tile(group, block), batch)


def correlate(
    x: Tensor, weight: Tensor, y: Tensor, stride: int, first: tuple[int, int], other: Tensor | None = None
) -> None:
    """y[i, j, o] = sum over channels c and taps (p, q) of weight[o, c, p, q] x[i stride + first + p, ..., c].

    Fills y [rows, columns, outputs, batch], of x [height, width, channels, batch] and of
    weight [groups, outputs, channels, taps, taps], each group by itself; `other`, which lies as y does, is added.
    """
    height, width, _, batch = x.shape
    rows, columns = y.shape[:2]
    groups, outputs, channels, taps_y, taps_x = weight.shape
    vectors, by_tap = tile_vectors(batch, lanes(x.dtype)), int(channels >= MANY_CHANNELS)
    adds, added = int(other is not None and not by_tap), y if other is None else other
    parts = []
    for begin, end, tile in even_tiles(outputs, accumulators() // vectors):
        # [groups, blocks, tile, channels, taps, taps] -> [groups, blocks, taps, taps, channels, tile]
        filters = weight[:, begin:end].unflatten(1, (-1, tile)).permute(0, 1, 4, 5, 3, 2).contiguous()
        kernel = compiled(fill_rows, x.dtype, outputs=tile, vectors=vectors, by_tap=by_tap, adds=adds)
        part = kernel(
            x=x,
            weight=filters,
            other=added[:, :, begin:],
            y=y[:, :, begin:],
            batch=batch,
            groups=groups,
            channels=channels,
            x_pixel=x.stride(1),
            height=height,
            width=width,
            blocks=filters.shape[1],
            columns=columns,
            stride=stride,
            first_y=first[0],
            first_x=first[1],
            taps_y=taps_y,
            taps_x=taps_x,
            y_row=y.stride(0),
            y_pixel=y.stride(1),
            y_group=outputs,
        )
        parts.append(part)

    def fill_parts(start: int, stop: int) -> None:
        for part in parts:
            part(start, stop)

    # The products of a row, some with what is outside the image.
    products = weight.numel() * columns * batch
    over_threads(rows, fill_parts, products / PRODUCTS)
    if other is not None and by_tap:
        y.add_(other)


def input_gradient(grad: Tensor, weight: Tensor, grad_x: Tensor, stride: int, padding: int) -> None:
    """Fill grad_x [height, width, channels, batch], the pixels of each residue modulo the stride by themselves.

    Of a pixel y it is the sum over the taps p for which (y + padding - p) / stride is a row of `grad`
    [rows, columns, outputs, batch]. weight [groups, outputs, channels, size, size].
    """
    size = weight.shape[-1]
    for y in range(stride):
        for x in range(stride):
            target = grad_x[y::stride, x::stride]
            start_y, start_x = (y + padding) % stride, (x + padding) % stride
            filters = weight[..., start_y::stride, start_x::stride].transpose(1, 2).flip(3, 4)
            # Pixels that no output reads.
            if filters.numel() == 0:
                target.zero_()
                continue
            # The row and the column of `grad` that meet the last tap, which is read foremost.
            first_y = (y + padding - range(start_y, size, stride)[-1]) // stride
            first_x = (x + padding - range(start_x, size, stride)[-1]) // stride
            correlate(grad, filters, target, 1, (first_y, first_x))
