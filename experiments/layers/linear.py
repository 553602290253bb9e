"""The linear layer, of one network or of a stack of members.

A stacked activation is [members, batch, features], laid out in memory as [members, features, batch]: a product
`weight @ activation` then needs no copy.
"""

import torch
from torch import Tensor, nn
from torch.autograd import Function

from experiments.kernels.matrices import product


class Linear(nn.Linear):
    """y = x W^T + b. x [..., batch, in_features] -> [..., batch, out_features]."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer of one network or of each member of a stack."""
        device = input.device.type
        # Only convolutions are for autocast, which there is not on every device (not on torch's meta device, say).
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return self.forward(input.to(self.weight.dtype))
        if self.weight.dim() == 2:
            return super().forward(input)
        y: Tensor = StackedLinear.apply(input, self.weight)  # type: ignore[assignment]
        return y if self.bias is None else y + self.bias.unsqueeze(-2)


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
        # [members, out, batch]
        grad = grads[0].mT
        grad_x = product(weight.mT, grad).mT if ctx.needs_input_grad[0] else None
        return grad_x, product(grad, x)
