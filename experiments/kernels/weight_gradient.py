"""Gradients of a convolution's weight.

Images of one member lie in memory as [height, width, channels, batch]. Of few channels vectors hold samples
(`_of_few_channels`): no lane is idle, but the lanes are to be summed at the end, and until then a sum takes
as much memory as a vector. Of many they hold channels (`_of_many_channels`), for which x is to be transposed.
"""

import math

import torch
from torch import Tensor

from experiments.kernels.language import Code, Integer, Pointer, Register, vector_at
from experiments.kernels.machine import PRODUCTS, accumulators, compiled, lanes, largest_vector, over_threads
from experiments.kernels.matrices import in_panels
from experiments.kernels.tiles import Sums, Tile, even_tiles, tile_vectors

# By measurement: from so many channels of input and output on, and so many products a number of x, for which it is
# to be transposed, vectors hold channels.
MANY_CHANNELS, MANY_PRODUCTS = 48, 200
# And where they hold samples: most channels of the output in a tile; over so many pixels of a row a tile is
# summed, which the nearest caches hold until all tiles are done; for so many bytes of tiles sums are held at once.
OUTPUTS, PIXELS, SUMS_BYTES = 4, 8, 30_000_000


def weight_gradient(x: Tensor, grad_weight: Tensor, grad: Tensor, stride: int, padding: int) -> None:
    """Fill grad_weight [groups, outputs, channels, size, size].

    grad_weight[o, c, p, q] = sum over pixels (i, j) and samples of grad[i, j, o] x[i stride + p - padding,
    ..., c], of x [height, width, channels, batch] and grad [rows, columns, outputs, batch], each group by
    itself.
    """
    groups, outputs, channels, taps, _ = grad_weight.shape
    if groups == 1 and min(outputs, channels) >= MANY_CHANNELS and outputs * taps**2 >= MANY_PRODUCTS:
        _of_many_channels(x, grad_weight[0], grad, stride, padding)
        return
    for o_tiles in even_tiles(outputs, OUTPUTS):
        for c_tiles in even_tiles(channels, max(1, accumulators() // (OUTPUTS * taps))):
            _of_few_channels(x, grad_weight, grad, stride, padding, o_tiles, c_tiles)


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

    Lanes are samples. For the blocks [start, stop) of `outputs` channels of `grad`, and all of `inputs`
    channels of x, of each group: such a tile, with all taps q of a row, is summed in registers, over so many
    neighbouring columns at a time, which caches hold until all tiles are done. From one pixel of x to the
    next there are `x_pixel` numbers, of `grad` `grad_pixel`; a group has `x_group` and `grad_group` channels.
    `ragged`: the batch is no whole number of vectors.
    """
    tile = [[[Register(code) for _ in range(taps)] for _ in range(inputs)] for _ in range(outputs)]
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
            pixels = []
            for q in range(taps):
                column = j * stride + q - padding
                pixels.append(row.at(column * x_pixel).if_within(column, width, zeros))
            channel = group * grad_group + o_block * outputs
            grad_pixels = grad.at((i * columns + j) * grad_pixel + channel * batch)
            with code.loop(0, batch, code.lanes) as number:
                sample, mask_tail = vector_at(batch, number, ragged)
                factors = [mask_tail(grad_pixels.load(o * batch + sample)) for o in range(outputs)]
                for c in range(inputs):
                    for q in range(taps):
                        value = pixels[q].load(c * batch + sample)
                        for o in range(outputs):
                            tile[o][c][q].set(value.times_plus(factors[o], tile[o][c][q].get()))
        for index, (o, c, q) in enumerate(order):
            place.store(index * code.lanes, tile[o][c][q].get())


def _of_few_channels(
    x: Tensor, grad_weight: Tensor, grad: Tensor, stride: int, padding: int, o_tiles: Tile, c_tiles: Tile
) -> None:
    """Fill the part of `grad_weight` that these tiles of outputs and of channels are, with vectors of samples."""
    height, width, _, batch = x.shape
    rows, columns = grad.shape[:2]
    groups, outputs, channels, taps, _ = grad_weight.shape
    (o_begin, o_end, o_tile), (c_begin, c_end, c_tile) = o_tiles, c_tiles
    c_blocks, vector = (c_end - c_begin) // c_tile, lanes(x.dtype)
    ragged = int(batch % vector > 0)
    kernel = compiled(sum_samples, x.dtype, outputs=o_tile, inputs=c_tile, taps=taps, ragged=ragged)
    zeros = torch.zeros(c_tile, batch, dtype=x.dtype)
    block = groups, taps, c_blocks, o_tile, c_tile, taps, vector
    at_once = max(1, SUMS_BYTES // (math.prod(block) * x.itemsize))

    def fill_blocks(start: int, stop: int) -> None:
        for first in range(start, stop, at_once):
            blocks = min(at_once, stop - first)
            part = slice(o_begin + first * o_tile, o_begin + (first + blocks) * o_tile)
            sums = torch.zeros(blocks, *block, dtype=x.dtype)
            work = kernel(
                x=x[:, :, c_begin:],
                grad=grad[:, :, part.start :],
                zeros=zeros,
                sums=sums,
                batch=batch,
                groups=groups,
                grad_group=outputs,
                x_group=channels,
                x_pixel=x.stride(1),
                height=height,
                width=width,
                grad_pixel=grad.stride(1),
                rows=rows,
                columns=columns,
                stride=stride,
                padding=padding,
                input_blocks=c_blocks,
                columns_together=PIXELS,
            )
            work(0, blocks)
            # [blocks, groups, taps, blocks, tile, tile, taps] -> [groups, outputs, channels, taps, taps]
            totals = sums.sum(-1).permute(1, 0, 4, 3, 5, 2, 6).flatten(1, 2).flatten(2, 3)
            grad_weight[:, part, c_begin:c_end] = totals

    blocks = (o_end - o_begin) // o_tile
    products = o_tile * grad_weight[:, 0, c_begin:c_end].numel() * rows * columns * batch
    over_threads(blocks, fill_blocks, products / PRODUCTS)


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
    the one before. The products of a pixel are summed in registers first, as rounding asks for.
    """
    size = vectors * code.lanes
    pixel_sums = Sums(code, outputs, vectors)
    with code.loop(0, rows) as i, code.loop(0, columns) as j:
        top, left = i * stride - padding, j * stride - padding
        with (
            code.loop((0 - top).at_least(0), (height - top).at_most(taps)) as p,
            code.loop((0 - left).at_least(0), (width - left).at_most(taps)) as q,
            code.loop(0, panels) as panel,
            code.loop(start, stop) as block,
        ):
            pixel = x.at((((top + p) * width + left + q) * panels + panel) * batch * size)
            channel = (block * outputs).at_most(channels - outputs)
            grad_pixel = grad.at(((i * columns + j) * channels + channel) * batch)
            pixel_sums.clear()
            pixel_sums.add_products(grad_pixel, batch, 1, pixel, size, batch)
            place = (((panel * blocks + block) * taps + p) * taps + q) * (outputs * size)
            pixel_sums.add_to(sums.at(place), size)


def _of_many_channels(x: Tensor, grad_weight: Tensor, grad: Tensor, stride: int, padding: int) -> None:
    """Fill grad_weight [outputs, channels, size, size], with vectors of channels."""
    height, width, _, batch = x.shape
    rows, columns = grad.shape[:2]
    outputs, channels, taps, _ = grad_weight.shape
    vector = largest_vector(channels, x.dtype)
    vectors = tile_vectors(channels, vector, saving=0)
    panel, tile = vector * vectors, min(outputs, accumulators() // vectors)
    # [pixels, panels, batch, channels of a panel]
    x_panels = in_panels(x.flatten(0, 1).mT, panel)
    panels, blocks = x_panels.shape[1], -(-outputs // tile)
    sums = torch.zeros(panels, blocks, taps, taps, tile, panel, dtype=x.dtype)
    work = compiled(sum_channels, x.dtype, vector, outputs=tile, vectors=vectors)(
        x=x_panels,
        grad=grad,
        sums=sums,
        batch=batch,
        panels=panels,
        height=height,
        width=width,
        channels=outputs,
        rows=rows,
        columns=columns,
        stride=stride,
        padding=padding,
        taps=taps,
        blocks=blocks,
    )
    products = tile * channels * taps**2 * rows * columns * batch
    over_threads(blocks, work, products / PRODUCTS)
    # The last panel overlaps the one before, and so does the last block.
    for c in range(panels):
        left = min(c * panel, channels - panel)
        for o in range(blocks):
            first = min(o * tile, outputs - tile)
            grad_weight[first : first + tile, left : left + panel] = sums[c, o].permute(2, 3, 0, 1)
