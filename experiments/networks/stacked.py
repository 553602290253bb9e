"""Linear maps and batch normalisation over a stack of members, forward and backward.

A stacked activation is [members, batch, features], laid out in memory as [members, features, batch]: a
product `weight @ activation` then needs no copy, and a feature's batch is one contiguous row.
"""

import torch
from torch import Tensor
from torch.autograd import Function

from experiments.networks.products import product


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


class StackedBatchNorm(Function):
    """Batch normalisation of x [members, batch, features] by each member's own batch, in train mode.

    Normalises by the biased batch variance and moves the running variance by the unbiased one, as torch
    does. `running_mean` and `running_var` [members, features] are updated in place.
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
    ) -> Tensor:
        """Return gamma (x - mean) / sqrt(var + eps) + beta."""
        rows = x.mT  # [members, features, batch]: one contiguous row a feature
        batch = rows.shape[-1]
        mean = rows.mean(-1, keepdim=True)
        y = rows - mean
        # Centred sum of squares by a norm: several times faster here than torch.var's running update.
        var = torch.linalg.vector_norm(y, dim=-1, keepdim=True).square_().div_(batch)
        running_mean, running_var = running
        running_mean.lerp_(mean[..., 0], momentum)
        running_var.lerp_(var[..., 0] * (batch / (batch - 1)), momentum)
        inverse_std = var.add_(eps).rsqrt_()
        torch.addcmul(bias.unsqueeze(-1), y, inverse_std * weight.unsqueeze(-1), out=y)
        ctx.save_for_backward(rows, weight, mean, inverse_std)
        ctx.eps = eps
        return y.mT

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight and bias."""
        rows, weight, mean, inverse_std = ctx.saved_tensors
        members, features, batch = rows.shape
        # To torch, every (member, feature) is a channel of one image of `batch` pixels.
        image = (1, members * features, batch)
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grads[0].mT.reshape(image),
            rows.reshape(image),
            weight.reshape(-1),
            None,
            None,
            mean.reshape(-1),
            inverse_std.reshape(-1),
            True,
            ctx.eps,
            (True, True, True),
        )
        return (
            grad_x.view_as(rows).mT,
            grad_weight.view_as(weight),
            grad_bias.view_as(weight),
            None,
            None,
            None,
        )
