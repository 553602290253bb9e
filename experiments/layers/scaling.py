"""The product of activations and the factors of noise."""

from torch import Tensor
from torch.autograd import Function

from experiments.kernels.factors import times
from experiments.kernels.machine import has_kernels


def scaled(x: Tensor, factor: Tensor) -> Tensor:
    """Return m x, whose gradient is that of x alone: factors are data."""
    # What carries the law of noise instead of draws is no tensor: `experiments.measuring.noisy_activation`.
    if isinstance(x, Tensor) and x.dim() == 3 and has_kernels(x) and _lie_alike(x, factor):
        return Scaled.apply(x, factor)  # type: ignore[return-value]
    return x * factor


def _lie_alike(x: Tensor, y: Tensor) -> bool:
    """Say whether two [members, batch, features] hold numbers of one kind, in one order and without gaps."""
    return (x.shape, x.stride(), x.dtype) == (y.shape, y.stride(), y.dtype) and x.mT.is_contiguous()


class Scaled(Function):
    """m x, of stacked vectors [members, batch, features] that lie as their factors do."""

    @staticmethod
    def forward(ctx, x: Tensor, factor: Tensor) -> Tensor:
        """Return the product."""
        ctx.save_for_backward(factor)
        return times(x, factor)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of x."""
        (factor,) = ctx.saved_tensors
        return scaled(grads[0], factor), None
