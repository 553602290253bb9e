"""Convolution of images over a stack of members on a CPU, forward and backward.

Arrays named x, y, grad and so on of one member are [height, width, channels, batch].
"""

import functools

import torch
from torch import Tensor
from torch.autograd import Function

from experiments.kernels import convolution
from experiments.kernels.machine import PRODUCTS, accumulators, compiled, lanes, over_threads
from experiments.kernels.tiles import even_tiles, tile_vectors
from experiments.layers.layout import batch_first, batch_last
from experiments.layers.weight_gradient import weight_gradient

# By measurement: from so many channels on what a tile reads of all taps is more than the nearer caches hold.
MANY_CHANNELS = 240


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
                weight_gradient(*arrays, stride, padding)
            grad_weight = filters.flatten(1, 2)
        return grad_x, grad_weight, None, None, None


def _correlate(x: Tensor, weight: Tensor, y: Tensor, stride: int, first: tuple[int, ...]) -> None:
    """y[i, j, o] = sum over channels c and taps (p, q) of weight[o, c, p, q] x[i stride + first + p, ..., c].

    Of each group, weight [groups, outputs, channels, taps, taps], by itself.
    """
    height, width, _, batch = x.shape
    rows, columns = y.shape[:2]
    groups, outputs, channels, *taps = weight.shape
    vectors, by_tap = tile_vectors(batch, lanes(x.dtype)), int(channels >= MANY_CHANNELS)
    kernels = []
    for begin, end, tile in even_tiles(outputs, accumulators() // vectors):
        # [groups, blocks, tile, channels, taps, taps] -> [groups, blocks, taps, taps, channels, tile]
        filters = weight[:, begin:end].unflatten(1, (-1, tile)).permute(0, 1, 4, 5, 3, 2).contiguous()
        sizes = batch, groups, channels, x.stride(1), height, width, filters.shape[1], columns, stride
        sizes += *first, *taps, y.stride(0), y.stride(1), outputs
        kernel = compiled(convolution.correlate, x.dtype, outputs=tile, vectors=vectors, by_tap=by_tap)
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
