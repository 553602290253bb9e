"""Convolution and batch normalisation of images over a stack of members on a CPU, forward and backward.

A stacked image is [members, batch, channels, height, width], laid out in memory as [members, height, width,
channels, batch], like the activations of `experiments.networks.stacked`: the batch last.
"""

import functools

import torch
from torch import Tensor
from torch.autograd import Function

from experiments.kernels import convolution, normalisation
from experiments.kernels.machine import accumulators, compiled, lanes

PARTS = 4  # of an image's rows, in which a gradient of the weight is summed, however many threads there are
PIXELS_TIMES_BATCH = 512


def takes(x: Tensor) -> bool:
    """Say whether the functions here are for images like x [members, batch, channels, height, width]."""
    on_cpu = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return on_cpu and x.shape[1] >= lanes()


def batch_last(x: Tensor) -> Tensor:
    """[members, batch, channels, height, width] -> [members, height, width, channels, batch], contiguous.

    A copy if x lies otherwise; images that all members share are copied once.
    """
    if x.shape[0] > 1 and x.stride(0) == 0:
        return batch_last(x[:1]).expand(len(x), -1, -1, -1, -1)
    return x.permute(0, 3, 4, 2, 1).contiguous()


def batch_first(x: Tensor) -> Tensor:
    """Undo `batch_last`, without a copy."""
    return x.permute(0, 4, 3, 1, 2)


class StackedConvolution(Function):
    """Convolution of each member's images with its own weight, zero padding, without a bias.

    x [members, batch, channels, height, width], weight [members, outputs, channels / groups, size, size].
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, stride: int, padding: int, groups: int) -> Tensor:
        """Return the convolutions [members, batch, outputs, height', width']."""
        x = batch_last(x)
        members, height, width, _, batch = x.shape
        outputs, size = weight.shape[1], weight.shape[-1]
        rows, columns = ((n + 2 * padding - size) // stride + 1 for n in (height, width))
        y = torch.empty(members, rows, columns, outputs, batch)
        for images, filters, made in zip(x, weight, y, strict=True):
            for part, filter_part, made_part in zip(
                images.chunk(groups, 2), filters.chunk(groups), made.chunk(groups, 2), strict=True
            ):
                _correlate(part, filter_part, made_part, stride, (-padding, -padding))
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding, groups
        return batch_first(y)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x (None when x is data) and weight."""
        x, weight = ctx.saved_tensors
        grad = batch_last(grads[0])
        stride, padding, groups = ctx.geometry
        grad_x, grad_weight = None, torch.empty_like(weight)
        if ctx.needs_input_grad[0]:
            grad_x = torch.empty(x.shape)
            for part, filters, made in zip(grad, weight, grad_x, strict=True):
                for args in zip(part.chunk(groups, 2), filters.chunk(groups), made.chunk(groups, 2), strict=True):
                    _input_gradient(*args, stride, padding)
            grad_x = batch_first(grad_x)
        for images, part, made in zip(x, grad, grad_weight, strict=True):
            for args in zip(images.chunk(groups, 2), part.chunk(groups, 2), made.chunk(groups), strict=True):
                _weight_gradient(*args, stride, padding)
        return grad_x, grad_weight, None, None, None


def _correlate(x: Tensor, weight: Tensor, y: Tensor, stride: int, first: tuple[int, int]) -> None:
    """y[i, j, o] = sum of weight[o, c, p, q] x[i stride + first + p, ..., c]; x and y [height, width, ..., batch]."""
    height, width, channels, batch = x.shape
    rows, columns, outputs, _ = y.shape
    taps_y, taps_x = weight.shape[2:]
    vectors = _vectors(batch)
    for begin, end, tile in _even_tiles(outputs, accumulators() // vectors):
        filters = weight[begin:end].unflatten(0, (-1, tile)).permute(0, 3, 4, 2, 1).contiguous()
        compiled(convolution.correlate, outputs=tile, vectors=vectors)(
            x, filters, y[:, :, begin:end], batch, channels, x.stride(1), height, width, (end - begin) // tile,
            0, rows, columns, stride, *first, taps_y, taps_x, y.stride(0), y.stride(1),
        )


def _input_gradient(grad: Tensor, weight: Tensor, grad_x: Tensor, stride: int, padding: int) -> None:
    """Fill grad_x [height, width, channels, batch], the pixels of each residue modulo the stride by themselves."""
    size = weight.shape[-1]
    for y in range(stride):
        for x in range(stride):
            target = grad_x[y::stride, x::stride]
            taps = [range((start + padding) % stride, size, stride) for start in (y, x)]
            if not (taps[0] and taps[1] and len(target) and target.shape[1]):
                target.zero_()
                continue
            first = tuple((start + padding - t[-1]) // stride for start, t in zip((y, x), taps, strict=True))
            filters = weight[:, :, taps[0].start :: stride, taps[1].start :: stride].flip(2, 3).transpose(0, 1)
            _correlate(grad, filters, target, 1, first)


def _weight_gradient(x: Tensor, grad: Tensor, made: Tensor, stride: int, padding: int) -> None:
    """Fill made [outputs, channels, size, size]."""
    height, width, channels, batch = x.shape
    rows, columns, outputs, _ = grad.shape
    size = made.shape[-1]
    tile = _tile(outputs, channels)
    blocks = outputs // tile[0], channels // tile[1]
    parts = max(1, min(PARTS, rows // 8))
    sums = torch.zeros(parts, size, size, *blocks, *tile, lanes())
    kernel = compiled(
        convolution.weight_gradient, outputs=tile[0], inputs=tile[1],
        together=min(16, max(4, PIXELS_TIMES_BATCH // batch)), ragged=int(batch % lanes() > 0),
    )
    for part in range(parts):
        start, stop = rows * part // parts, rows * (part + 1) // parts
        kernel(
            x, grad, sums[part], batch, x.stride(1), height, width, grad.stride(1), start, stop, columns,
            stride, padding, size, *blocks,
        )
    made.copy_(sums.sum((0, -1)).permute(2, 4, 3, 5, 0, 1).reshape(made.shape))


@functools.cache
def _vectors(batch: int) -> int:
    """Return of how many vectors of the batch a tile is: with the least overlap, then the largest."""
    most = min(accumulators() // 6, batch // lanes())
    return min(range(most, 0, -1), key=lambda vectors: -(-batch // (vectors * lanes())) * vectors)


@functools.cache
def _even_tiles(count: int, most: int) -> list[tuple[int, int, int]]:
    """Cut `count` into tiles of two neighbouring sizes, at most `most`: (begin, end, size) for each size."""
    tiles = -(-count // most)
    small, larger = divmod(count, tiles)
    middle = larger * (small + 1)
    sizes = [(0, middle, small + 1), (middle, count, small)]
    return [size for size in sizes if size[0] < size[1]]


@functools.cache
def _tile(outputs: int, inputs: int) -> tuple[int, int]:
    """Return the largest tile that divides both numbers and is summed in registers; the more outputs the better."""
    tiles = [
        (o, i)
        for o in range(1, outputs + 1)
        for i in range(1, inputs + 1)
        if outputs % o == 0 and inputs % i == 0 and o * i <= accumulators() and i <= 6
    ]
    return max(tiles, key=lambda tile: (tile[0] * tile[1], -abs(tile[0] - 8)))


class StackedImageNorm(Function):
    """Batch normalisation of x [members, batch, channels, height, width] by each member's own batch, in train mode.

    Normalises by the biased variance and moves the running variance by the unbiased one, as torch does; the running
    mean and variance [members, channels] are updated in place. `relu`: return max(0, y).
    """

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running: tuple[Tensor, Tensor],
        momentum: float,
        eps: float,
        relu: bool,
    ) -> Tensor:
        """Return gamma (x - mean) / sqrt(var + eps) + beta."""
        x = batch_last(x).contiguous()
        members, height, width, channels, batch = x.shape
        pixels = members * height * width
        count, ragged = height * width * batch, int(batch % lanes() > 0)
        sums = torch.empty(members, height * width, channels)
        compiled(normalisation.row_sums, ragged=ragged)(x, sums, batch, 0, pixels * channels)
        mean = (sums.sum(1, dtype=torch.double) / count).float()
        for images, centre, made in zip(x, mean, sums, strict=True):
            compiled(normalisation.row_squares, ragged=ragged)(
                images, centre, made, batch, channels, 0, height * width
            )
        var = (sums.sum(1, dtype=torch.double) / count).float()
        running[0].lerp_(mean, momentum)
        running[1].lerp_(var * (count / (count - 1)), momentum)
        inverse_std = torch.rsqrt(var + eps)
        scale = weight * inverse_std
        shift = bias - mean * scale
        y = torch.empty_like(x)
        for images, factor, added, made in zip(x, scale, shift, y, strict=True):
            compiled(normalisation.normalise, relu=int(relu))(
                images, factor, added, made, batch, channels, 0, height * width
            )
        ctx.save_for_backward(x, mean, inverse_std, scale, shift)
        ctx.relu = relu
        return batch_first(y)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight and bias."""
        x, mean, inverse_std, scale, shift = ctx.saved_tensors
        members, height, width, channels, batch = x.shape
        grad, pixels = batch_last(grads[0]).contiguous(), height * width
        count, relu, ragged = pixels * batch, int(ctx.relu), int(batch % lanes() > 0)
        sums, products = torch.empty(2, members, pixels, channels)
        for arrays in zip(grad, x, mean, scale, shift, sums, products, strict=True):
            compiled(normalisation.gradient_sums, relu=relu, ragged=ragged)(*arrays, batch, channels, 0, pixels)
        grad_bias = sums.sum(1, dtype=torch.double).float()
        grad_weight = products.sum(1, dtype=torch.double).float() * inverse_std
        # dL/dx = scale (g - mean of g - x^ mean of (g x^)), with x^ = (x - mean) / std.
        slope = -scale * inverse_std * grad_weight / count
        offset = -scale * grad_bias / count - slope * mean
        grad_x = torch.empty_like(x)
        for arrays in zip(grad, x, scale, shift, slope, offset, grad_x, strict=True):
            compiled(normalisation.input_gradient, relu=relu)(*arrays, batch, channels, 0, pixels)
        return batch_first(grad_x), grad_weight, grad_bias, None, None, None, None


class StackedGroupNorm(Function):
    """Normalisation of each sample of x [members, batch, channels, height, width] over groups of channels.

    As torch.nn.GroupNorm, with each member's own weight and bias [members, channels].
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        """Return gamma (x - mean) / sqrt(var + eps) + beta."""
        shape = batch_last(x).shape  # [members, height, width, channels, batch]
        x = batch_last(x).reshape(len(x), -1, groups, shape[3] // groups, shape[4])
        weight, bias = (values.view(len(x), 1, groups, -1, 1) for values in (weight, bias))
        count = x.shape[1] * x.shape[3]
        centred = x - x.sum(1, keepdim=True).sum(3, keepdim=True) / count
        var = centred.square().sum(1, keepdim=True).sum(3, keepdim=True) / count
        inverse_std = torch.rsqrt(var + eps)  # [members, 1, groups, 1, batch]
        ctx.save_for_backward(centred, inverse_std, weight)
        return batch_first(torch.addcmul(bias, centred, weight * inverse_std).view(shape))

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight and bias."""
        centred, inverse_std, weight = ctx.saved_tensors
        grad = batch_last(grads[0])
        shape, grad = grad.shape, grad.reshape(centred.shape)
        count = centred.shape[1] * centred.shape[3]
        sums = grad.sum(1, keepdim=True)  # [members, 1, groups, channels of one, batch]
        products = (grad * centred).sum(1, keepdim=True) * inverse_std
        grad_bias, grad_weight = (total.sum(-1).view(len(grad), -1) for total in (sums, products))
        # dL/dx = (w g - mean of w g - x^ mean of w g x^) / std, with x^ = (x - mean) / std.
        of_mean = (weight * sums).sum(3, keepdim=True) / -count * inverse_std
        of_std = (weight * products).sum(3, keepdim=True) / -count * inverse_std.square()
        grad_x = torch.addcmul(of_mean, centred, of_std).addcmul_(grad, weight * inverse_std)
        return batch_first(grad_x.view(shape)), grad_weight, grad_bias, None, None
