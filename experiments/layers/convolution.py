"""The convolution of images, of one network or of a stack of members."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from experiments.kernels.correlation import correlate, input_gradient
from experiments.kernels.weight_gradient import weight_gradient
from experiments.layers.layout import batch_first, batch_last, fold_members, takes_batch_last, unfold_members


class Conv2d(nn.Conv2d):
    """Convolution of images. x [..., batch, in_channels, height, width] -> [..., batch, out_channels, ...].

    Square, with zero padding and without a bias.
    """

    def forward(self, input: Tensor, plus: Tensor | None = None) -> Tensor:
        """Apply the layer of one network or of each member of a stack, and add `plus`."""
        if self.weight.dim() == 4:
            y = super().forward(input)
        elif takes_batch_last(input):
            geometry = self.stride[0], int(self.padding[0]), self.groups
            return StackedConvolution.apply(input, self.weight, plus, *geometry)  # type: ignore[return-value]
        else:
            y = self._convolve_folded(input)
        return y if plus is None else y + plus

    def _convolve_folded(self, input: Tensor) -> Tensor:
        # The members are the groups of one convolution.
        y = F.conv2d(
            fold_members(input),
            self.weight.flatten(0, 1),
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.groups * len(self.weight),
        )
        return unfold_members(y, len(self.weight))


def convolution_plus(layer: Conv2d, x: Tensor, other: Tensor) -> Tensor:
    """layer(x) + other, of a stack with the batch last in one pass.

    Elsewhere the layer returns what it computes alone: whoever listens to a plain network hears its layers.
    """
    if layer.weight.dim() == 5 and takes_batch_last(x):
        return layer(x, other)
    return layer(x) + other


class StackedConvolution(Function):
    """Convolution of each member's images with its own weight, with zero padding and without a bias; on a CPU.

    x [members, batch, channels, height, width], weight [members, outputs, channels / groups, size, size].
    """

    @staticmethod
    def forward(
        ctx, x: Tensor, weight: Tensor, plus: Tensor | None, stride: int, padding: int, groups: int
    ) -> Tensor:
        """Return the convolutions [members, batch, outputs, height', width'], and `plus` added to them."""
        x = batch_last(x)
        members, *shape, _, batch = x.shape
        rows, columns = ((size + 2 * padding - weight.shape[-1]) // stride + 1 for size in shape)
        y = torch.empty(members, rows, columns, weight.shape[1], batch, dtype=x.dtype)
        added = [None] * members if plus is None else batch_last(plus).unbind()
        for images, filters, target, other in zip(
            x.unbind(), weight.unbind(), y.unbind(), added, strict=True
        ):
            correlate(images, filters.unflatten(0, (groups, -1)), target, stride, (-padding, -padding), other)
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding, groups
        return batch_first(y)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight and `plus`, of those that are wanted."""
        x, weight = ctx.saved_tensors
        stride, padding, groups = ctx.geometry
        grad, weight = batch_last(grads[0]), weight.unflatten(1, (groups, -1))
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            targets = torch.empty(x.shape, dtype=x.dtype)
            for arrays in zip(grad.unbind(), weight.unbind(), targets.unbind(), strict=True):
                input_gradient(*arrays, stride, padding)
            grad_x = batch_first(targets)
        if ctx.needs_input_grad[1]:
            filters = torch.empty_like(weight)
            for arrays in zip(x.unbind(), filters.unbind(), grad.unbind(), strict=True):
                weight_gradient(*arrays, stride, padding)
            grad_weight = filters.flatten(1, 2)
        return grad_x, grad_weight, grads[0] if ctx.needs_input_grad[2] else None, None, None, None
