"""Convolution of images over a stack of members on a CPU, forward and backward.

Arrays named x, y, grad and so on of one member are [height, width, channels, batch].
"""

import functools
import math

import torch
from torch import Tensor
from torch.autograd import Function

from experiments.kernels import convolution
from experiments.kernels.machine import PRODUCTS, accumulators, compiled, lanes, over_threads, tile_vectors
from experiments.networks.layout import batch_first, batch_last

Tile = tuple[int, int, int]

# Of a gradient of the weight, by measurement: most channels of the output in a tile.
GRADIENT_OUTPUTS = 4
# A tile is summed over 8 neighbouring pixels at a time, which the nearest caches hold until all tiles are done. Of
# many channels they would not; there it is summed over as many rows as the shared cache holds, which spares moving
# the sums.
PIXELS, MANY_CHANNELS, STRIP_BYTES = 8, 100, 10_000_000
# Sums are held for so many bytes of tiles at once.
SUMS_BYTES = 30_000_000


class StackedConvolution(Function):
    """Convolution of each member's images with its own weight, with zero padding and without a bias.

    x [members, batch, channels, height, width], weight [members, outputs, channels / groups, size, size].
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, stride: int, padding: int, groups: int) -> Tensor:
        """Return the convolutions [members, batch, outputs, height', width']."""
        x = batch_last(x)
        members, *shape, _, batch = x.shape
        rows, columns = ((size + 2 * padding - weight.shape[-1]) // stride + 1 for size in shape)
        y = torch.empty(members, rows, columns, weight.shape[1], batch, dtype=x.dtype)
        for images, filters, made in zip(x.unbind(), weight.unbind(), y.unbind(), strict=True):
            _correlate(images, filters.unflatten(0, (groups, -1)), made, stride, (-padding, -padding))
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding, groups
        return batch_first(y)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x and weight, of those that are wanted."""
        x, weight = ctx.saved_tensors
        stride, padding, groups = ctx.geometry
        grad, weight = batch_last(grads[0]), weight.unflatten(1, (groups, -1))
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            made = torch.empty(x.shape, dtype=x.dtype)
            for arrays in zip(grad.unbind(), weight.unbind(), made.unbind(), strict=True):
                _input_gradient(*arrays, stride, padding)
            grad_x = batch_first(made)
        if ctx.needs_input_grad[1]:
            filters = torch.empty_like(weight)
            for arrays in zip(x.unbind(), filters.unbind(), grad.unbind(), strict=True):
                _weight_gradient(*arrays, stride, padding)
            grad_weight = filters.flatten(1, 2)
        return grad_x, grad_weight, None, None, None


def _correlate(x: Tensor, weight: Tensor, y: Tensor, stride: int, first: tuple[int, ...]) -> None:
    """y[i, j, o] = sum over channels c and taps (p, q) of weight[o, c, p, q] x[i stride + first + p, ..., c].

    Of each group, weight [groups, outputs, channels, taps, taps], by itself.
    """
    height, width, _, batch = x.shape
    rows, columns = y.shape[:2]
    groups, outputs, channels, *taps = weight.shape
    vectors = tile_vectors(batch, lanes(x.dtype))
    kernels = []
    for begin, end, tile in _even_tiles(outputs, accumulators() // vectors):
        # [groups, blocks, tile, channels, taps, taps] -> [groups, blocks, taps, taps, channels, tile]
        filters = weight[:, begin:end].unflatten(1, (-1, tile)).permute(0, 1, 4, 5, 3, 2).contiguous()
        sizes = batch, groups, channels, x.stride(1), height, width, filters.shape[1], columns, stride
        sizes += *first, *taps, y.stride(0), y.stride(1), outputs
        kernel = compiled(convolution.correlate, x.dtype, outputs=tile, vectors=vectors)
        kernels.append(functools.partial(kernel, x, filters, y[:, :, begin:], *sizes))

    def fill_rows(start: int, stop: int) -> None:
        for kernel in kernels:
            kernel(start, stop)

    products = weight.numel() * columns * batch  # of a row, some with what is outside the image
    over_threads(rows, fill_rows, products / PRODUCTS)


def _input_gradient(grad: Tensor, weight: Tensor, grad_x: Tensor, stride: int, padding: int) -> None:
    """Fill grad_x, the pixels of each residue modulo the stride by themselves.

    Of a pixel y it is the sum over the taps p for which (y + padding - p) / stride is a row of `grad`.
    """
    size = weight.shape[-1]
    for y in range(stride):
        for x in range(stride):
            target = grad_x[y::stride, x::stride]
            start = (y + padding) % stride, (x + padding) % stride
            filters = weight[..., start[0] :: stride, start[1] :: stride].transpose(1, 2).flip(3, 4)
            if filters.numel() == 0:  # pixels that no output reads
                target.zero_()
                continue
            first = tuple(
                (pixel + padding - range(begin, size, stride)[-1]) // stride  # of the last tap, read foremost
                for pixel, begin in zip((y, x), start, strict=True)
            )
            _correlate(grad, filters, target, 1, first)


def _weight_gradient(x: Tensor, grad_weight: Tensor, grad: Tensor, stride: int, padding: int) -> None:
    """Fill grad_weight [groups, outputs, channels, size, size]."""
    _, outputs, channels, taps, _ = grad_weight.shape
    for o_tiles in _even_tiles(outputs, GRADIENT_OUTPUTS):
        for c_tiles in _even_tiles(channels, max(1, accumulators() // (GRADIENT_OUTPUTS * taps))):
            _fill_tiles(x, grad_weight, grad, stride, padding, o_tiles, c_tiles)


def _fill_tiles(
    x: Tensor, grad_weight: Tensor, grad: Tensor, stride: int, padding: int, o_tiles: Tile, c_tiles: Tile
) -> None:
    """Fill the part of `grad_weight` that these tiles of outputs and of channels are."""
    height, width, _, batch = x.shape
    rows, columns = grad.shape[:2]
    groups, outputs, channels, taps, _ = grad_weight.shape
    (o_begin, o_end, o_tile), (c_begin, c_end, c_tile) = o_tiles, c_tiles
    c_blocks = (c_end - c_begin) // c_tile
    strip, pixels = 1, PIXELS
    if channels >= MANY_CHANNELS:
        strip, pixels = max(1, STRIP_BYTES // x[0].nbytes), columns
    sizes = batch, groups, outputs, channels, x.stride(1), height, width, grad.stride(1), rows, columns
    sizes += stride, padding, c_blocks, strip, pixels
    options = {"outputs": o_tile, "inputs": c_tile, "taps": taps, "ragged": int(batch % lanes(x.dtype) > 0)}
    kernel = compiled(convolution.weight_gradient, x.dtype, **options)
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


@functools.cache
def _even_tiles(count: int, most: int) -> list[Tile]:
    """Cut range(count) into tiles of one size or two neighbouring ones, at most `most`.

    Returned are begin, end and size of the tiles of each size.
    """
    for tile in range(most, -(-2 * most // 3) - 1, -1):
        if count % tile == 0:  # somewhat smaller tiles are better than two calls of a kernel
            return [(0, count, tile)]
    size, larger = divmod(count, -(-count // most))
    middle = larger * (size + 1)
    return [tile for tile in ((0, middle, size + 1), (middle, count, size)) if tile[0] < tile[1]]
