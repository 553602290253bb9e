"""What the formulas of `analysis.theory` need of a layer: its weight's angle, sums over its inputs, its response.

Pure functions, nothing of the project imported. A layer is a Linear or a convolution of any stride, padding,
dilation and grouping; where None is allowed it is the identity, noise straight into BatchNorm. Only the layer's
weight and geometry are read, so all of this runs under `torch.func.vmap` and `functional_call`.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d

_CONVOLVE: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


# --- what Eq 12 needs


def fan_in(weight: Tensor) -> int:
    """d, the number of inputs of one filter (k x k: channels * k * k). weight: [filters, fan-in...]."""
    return math.prod(weight.shape[1:])


def squared_cosine(weight: Tensor) -> Tensor:
    """cos^2 of the angle between each filter and the all-ones vector: (sum w)^2 / (d sum w^2), in [0, 1].

    weight: [filters, fan-in...] -> [filters]. The paper plots it in Figure 3. A filter of zeros
    gives nan.
    """
    flat = weight.flatten(1)  # [filters, fan_in]
    return flat.sum(1) ** 2 / (fan_in(weight) * (flat**2).sum(1))


def patch_sum(layer: nn.Module | None, x: Tensor) -> Tensor:
    """sum_i x_i over the d inputs that every output of the layer sees.

    Linear: x [..., features] -> [..., 1].
    Convolution: x [batch, channels, *space] -> [batch, groups, *out_space], each group's patch summed over
    its own channels, with the layer's stride, padding and dilation.
    None (noise straight into BatchNorm): x itself, d = 1.
    """
    if layer is None:
        return x
    if isinstance(layer, nn.Linear):
        return x.sum(-1, keepdim=True)
    layer = _as_convolution(layer)
    channel_sums = x.unflatten(1, (layer.groups, -1)).sum(2)
    return _convolve(layer, channel_sums, layer.weight.new_ones(layer.groups, 1, *layer.weight.shape[2:]))


def entry_sums(layer: nn.Module, x: Tensor) -> tuple[Tensor, int]:
    """Sum of each entry of a convolution's patches over all output positions, and the number of these.

    x: [batch, channels, *space] -> [batch, channels * kernel entries]; padding adds what it pads with. The entries
    are the inputs that c, v and rho of Eq 12 are about: a channel has one for each place in the kernel, and with
    zero padding some are often 0.
    """
    layer = _as_convolution(layer)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(x, _padding_widths(layer), mode=mode)
    spans = [dilation * (size - 1) for size, dilation in zip(layer.kernel_size, layer.dilation, strict=True)]
    sums, positions = [], 0
    for place in itertools.product(*map(range, layer.kernel_size)):
        seen = padded
        for axis, (entry, dilation, stride, span) in enumerate(
            zip(place, layer.dilation, layer.stride, spans, strict=True), start=2
        ):
            begin = entry * dilation
            steps = slice(begin, seen.shape[axis] - span + begin, stride)
            seen = seen[(slice(None),) * axis + (steps,)]
        sums.append(seen.flatten(2).sum(-1))
        positions = math.prod(seen.shape[2:])
    return torch.stack(sums, 2).flatten(1), positions


# --- what the exact law needs


def response_without_bias(layer: nn.Module | None, x: Tensor) -> Tensor:
    """The linear part of a layer. x: the layer's input -> the layer's output shape. None is the identity."""
    if layer is None:
        return x
    if isinstance(layer, nn.Linear):
        return F.linear(x, layer.weight)
    layer = _as_convolution(layer)
    return _convolve(layer, x, layer.weight)


def squared_response(layer: nn.Module | None, x: Tensor) -> Tensor:
    """L2(x^2): the same layer with squared weights and no bias, applied to x^2.

    Multiplied by sigma^2 it is the variance that elementwise noise on x adds to each output. x: the layer's
    input -> the layer's output shape. None (noise straight into BatchNorm) is the identity, hence x^2.
    A padding that repeats inputs (reflect, replicate, circular) repeats them with their noise: where one
    patch holds copies of one input, their weights are added before they are squared.
    """
    if layer is None:
        return x**2
    if isinstance(layer, nn.Linear):
        return F.linear(x**2, layer.weight**2)
    layer = _as_convolution(layer)
    if layer.padding_mode == "zeros":
        return _convolve(layer, x**2, layer.weight**2)
    return _squared_response_with_copies(layer, x)


def squared_response_shared(layer: nn.Module | None, x: Tensor) -> Tensor:
    """Sum over input channels of (that channel's contribution to the output)^2.

    What `squared_response` is to elementwise noise, for noise that a whole channel shares (Dropout2d style).
    Convolution: x [batch, channels, *space] -> [batch, out_channels, *out_space]. A Linear layer's features
    are channels of one entry each, and None is the identity: for both this equals `squared_response`.
    """
    if layer is None or isinstance(layer, nn.Linear):
        return squared_response(layer, x)
    layer = _as_convolution(layer)
    by_group = x.unflatten(1, (layer.groups, -1))  # [batch, groups, channels / groups, *space]
    # One channel of every group at a time, because all at once would hold channels times the output.
    contributions = (
        _convolve(layer, by_group[:, :, channel], layer.weight[:, channel : channel + 1])
        for channel in range(by_group.shape[2])
    )
    total = next(contributions) ** 2
    for contribution in contributions:
        total = total + contribution**2
    return total


# --- convolutions with any weight


def _as_convolution(layer: nn.Module) -> Convolution:
    if not isinstance(layer, Convolution):
        raise TypeError(
            f"no theory for {type(layer).__name__}; allowed: Linear, Conv1d, Conv2d, Conv3d or None"
        )
    return layer


def _convolve(layer: Convolution, x: Tensor, weight: Tensor) -> Tensor:
    """The layer's convolution, geometry and all, with another weight and no bias."""
    if layer.padding_mode == "zeros":
        return _convolve_padded(layer, x, weight, layer.padding)
    return _convolve_padded(layer, F.pad(x, _padding_widths(layer), mode=layer.padding_mode), weight)


def _convolve_padded(layer: Convolution, x: Tensor, weight: Tensor, padding: Any = 0) -> Tensor:
    convolve = _CONVOLVE[weight.dim() - 2]
    return convolve(x, weight, None, layer.stride, padding, layer.dilation, layer.groups)


def _squared_response_with_copies(layer: Convolution, x: Tensor) -> Tensor:
    """`squared_response` where padding copies inputs: the sum of w w' x^2 over pairs of copies of one input.

    The pairs are visited by the offset between their two entries in the kernel; offset 0 pairs every entry
    with itself, and is all there is away from the border.
    """
    widths, mode = _padding_widths(layer), layer.padding_mode
    inputs = torch.arange(math.prod(x.shape[2:]), device=x.device, dtype=torch.double).view(
        1, 1, *x.shape[2:]
    )
    squares, inputs = F.pad(x**2, widths, mode=mode), F.pad(inputs, widths, mode=mode)  # [..., *padded space]
    total = _convolve_padded(layer, squares, layer.weight**2)
    for offset in itertools.product(*(range(1 - size, size) for size in layer.kernel_size)):
        steps = [entries * dilation for entries, dilation in zip(offset, layer.dilation, strict=True)]
        copies = inputs == _shifted(inputs, steps, fill=-1)
        if any(offset) and copies.any():
            pair_weight = layer.weight * _shifted(layer.weight, offset, fill=0)
            total = total + _convolve_padded(layer, squares * copies, pair_weight)
    return total


def _shifted(values: Tensor, steps: Sequence[int], fill: float) -> Tensor:
    """values[..., i + step] at every i of the last axes, and `fill` where that is outside."""
    return F.pad(values, [width for step in reversed(steps) for width in (-step, step)], value=fill)


def _padding_widths(layer: Convolution) -> list[int]:
    """Widths before and after every axis, last axis first, as F.pad wants them."""
    widths = []
    for axis in reversed(range(len(layer.kernel_size))):
        if layer.padding == "same":  # an odd total has its extra entry at the end, as in torch
            total = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
            widths += [total // 2, total - total // 2]
        elif layer.padding == "valid":
            widths += [0, 0]
        else:
            widths += [int(layer.padding[axis])] * 2
    return widths
