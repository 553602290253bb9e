"""Linear maps over a stack of members, forward and backward.

A stacked activation is [members, batch, features], laid out in memory as [members, features, batch]: a
product `weight @ activation` then needs no copy.
"""

from torch import Tensor
from torch.autograd import Function

from experiments.layers.products import product


class StackedLinear(Function):
    """y = x W^T for each member: x [members, batch, in], weight [members, out, in] -> [members, batch, out].

    An `x` that all members share may be one tensor expanded over them.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        """Return the stacked product."""
        ctx.save_for_backward(x, weight)
        return product(weight, x.mT).mT

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the gradients of x (None when x is data) and weight."""
        x, weight = ctx.saved_tensors
        grad = grads[0].mT  # [members, out, batch]
        grad_x = product(weight.mT, grad).mT if ctx.needs_input_grad[0] else None
        return grad_x, product(grad, x)
