"""The gradient of a convolution's weight, of the images of one member, [height, width, channels, batch]."""

import functools
import math

import torch
from torch import Tensor

from experiments.kernels import weight_gradient as kernels
from experiments.kernels.machine import PRODUCTS, accumulators, compiled, lanes, largest_vector, over_threads
from experiments.kernels.tiles import Tile, even_tiles, tile_vectors
from experiments.layers.products import in_panels

# By measurement: from so many channels on, read and made, vectors hold channels.
MANY_CHANNELS = 48
# And where they hold samples: most channels of the output in a tile; over so many pixels of a row a tile is
# summed, which the nearest caches hold until all tiles are done; for so many bytes of tiles sums are held at once.
OUTPUTS, PIXELS, SUMS_BYTES = 4, 8, 30_000_000


def weight_gradient(x: Tensor, grad_weight: Tensor, grad: Tensor, stride: int, padding: int) -> None:
    """Fill grad_weight [groups, outputs, channels, size, size]."""
    groups, outputs, channels, taps, _ = grad_weight.shape
    if groups == 1 and min(outputs, channels) >= MANY_CHANNELS:
        _of_many_channels(x, grad_weight[0], grad, stride, padding)
        return
    for o_tiles in even_tiles(outputs, OUTPUTS):
        for c_tiles in even_tiles(channels, max(1, accumulators() // (OUTPUTS * taps))):
            _fill_tiles(x, grad_weight, grad, stride, padding, o_tiles, c_tiles)


def _of_many_channels(x: Tensor, grad_weight: Tensor, grad: Tensor, stride: int, padding: int) -> None:
    """Fill grad_weight [outputs, channels, size, size], with vectors of channels."""
    height, width, _, batch = x.shape
    rows, columns = grad.shape[:2]
    outputs, channels, taps, _ = grad_weight.shape
    vector = largest_vector(channels, x.dtype)
    vectors = tile_vectors(channels, vector, saving=0)
    panel, tile = vector * vectors, min(outputs, accumulators() // vectors)
    laid = in_panels(x.flatten(0, 1).mT, panel)  # [pixels, panels, batch, channels of a panel]
    panels, blocks = laid.shape[1], -(-outputs // tile)
    sums = torch.zeros(panels, blocks, taps, taps, tile, panel, dtype=x.dtype)
    kernel = compiled(kernels.sum_channels, x.dtype, vector, outputs=tile, vectors=vectors)
    sizes = batch, panels, height, width, outputs, rows, columns, stride, padding, taps, blocks
    products = tile * channels * taps**2 * rows * columns * batch
    over_threads(blocks, functools.partial(kernel, laid, grad, sums, *sizes), products / PRODUCTS)
    for c in range(panels):
        left = min(
            c * panel, channels - panel
        )  # the last panel overlaps the one before, and so does the last block
        for o in range(blocks):
            first = min(o * tile, outputs - tile)
            grad_weight[first : first + tile, left : left + panel] = sums[c, o].permute(2, 3, 0, 1)


def _fill_tiles(
    x: Tensor, grad_weight: Tensor, grad: Tensor, stride: int, padding: int, o_tiles: Tile, c_tiles: Tile
) -> None:
    """Fill the part of `grad_weight` that these tiles of outputs and of channels are, with vectors of samples."""
    height, width, _, batch = x.shape
    rows, columns = grad.shape[:2]
    groups, outputs, channels, taps, _ = grad_weight.shape
    (o_begin, o_end, o_tile), (c_begin, c_end, c_tile) = o_tiles, c_tiles
    c_blocks = (c_end - c_begin) // c_tile
    sizes = batch, groups, outputs, channels, x.stride(1), height, width, grad.stride(1), rows, columns
    sizes += stride, padding, c_blocks, PIXELS
    options = {"outputs": o_tile, "inputs": c_tile, "taps": taps, "ragged": int(batch % lanes(x.dtype) > 0)}
    kernel = compiled(kernels.sum_samples, x.dtype, **options)
    zeros = torch.zeros(c_tile, batch, dtype=x.dtype)
    block = groups, taps, c_blocks, o_tile, c_tile, taps, lanes(x.dtype)
    at_once = max(1, SUMS_BYTES // (math.prod(block) * x.itemsize))

    def fill_blocks(start: int, stop: int) -> None:
        for first in range(start, stop, at_once):
            blocks = min(at_once, stop - first)
            part = slice(o_begin + first * o_tile, o_begin + (first + blocks) * o_tile)
            sums = torch.zeros(blocks, *block, dtype=x.dtype)
            kernel(x[:, :, c_begin:], grad[:, :, part.start :], zeros, sums, *sizes, 0, blocks)
            # [blocks, groups, taps, blocks, tile, tile, taps] -> [groups, outputs, channels, taps, taps]
            made = sums.sum(-1).permute(1, 0, 4, 3, 5, 2, 6).flatten(1, 2).flatten(2, 3)
            grad_weight[:, part, c_begin:c_end] = made

    blocks = (o_end - o_begin) // o_tile
    products = o_tile * grad_weight[:, 0, c_begin:c_end].numel() * rows * columns * batch
    over_threads(blocks, fill_blocks, products / PRODUCTS)
