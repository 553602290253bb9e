"""Looking at what BN layers get, at little cost: what the audit sums up also serves to normalise the batch."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from analysis.audit.layer import Layer

Moments = tuple[Tensor, Tensor]  # mean and biased variance of a batch, per channel
Look = Callable[[Layer, Tensor], Moments | None]


@contextmanager
def inputs_seen(layers: Iterable[Layer], look: Look) -> Iterator[None]:
    """Call `look(layer, x)` with every input x of each BN layer.

    A layer that normalises by its batch does so by the moments that `look` returns, if any: the same that torch's
    BN in train mode would find, which takes it several times as long on a CPU.
    """
    seen = [(layer, layer.norm.__dict__.get("forward")) for layer in layers]
    try:
        for layer, _ in seen:
            layer.norm.__dict__["forward"] = _looking(layer, look)
        yield
    finally:
        for layer, forward in seen:
            layer.norm.__dict__.pop("forward", None)
            if forward is not None:
                layer.norm.__dict__["forward"] = forward


def _looking(layer: Layer, look: Look) -> Callable:
    """The layer's `forward`, but its input is looked at first."""
    norm, forward = layer.norm, layer.norm.forward
    is_torchs = getattr(forward, "__func__", getattr(forward, "func", None)) is _BatchNorm.forward

    def looking(*args: Any, **kwargs: Any) -> Any:
        x = args[0] if args else kwargs["input"]
        with torch._C.DisableTorchFunction():
            moments = look(layer, x)
        if not norm.training:
            mean, variance = norm.running_mean, norm.running_var
        else:
            mean, variance = moments if moments is not None and _serve(moments, norm, x) else (None, None)
        if mean is None or variance is None or not is_torchs:
            return forward(*args, **kwargs)
        norm._check_input_dim(x)
        cudnn = torch.backends.cudnn.enabled
        return torch.batch_norm(x, norm.weight, norm.bias, mean, variance, False, 0.0, norm.eps, cudnn)

    return looking


def _serve(moments: Moments, norm: _BatchNorm, x: Tensor) -> bool:
    """Whether torch's BN would find the same moments: in its precision, and without a gradient through them."""
    is_plain = type(x) is Tensor and not torch.is_grad_enabled() and x.dtype == moments[0].dtype
    return is_plain and (norm.weight is None or norm.weight.dtype == x.dtype)
