"""Looking at what BN layers get, at little cost: what the audit sums up also serves to normalise the batch."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from analysis.audit.moments import SampleSums

Look = Callable[[Tensor], SampleSums | None]


@contextmanager
def inputs_seen(looks: Iterable[tuple[_BatchNorm, Look]]) -> Iterator[None]:
    """Call `look(x)` with every input x of each BN layer that comes with it.

    A layer that normalises by its batch does so by the sums that its `look` returns, if any: the same statistics,
    which torch's BN in train mode would take several times as long to find on a CPU.
    """
    seen = [(norm, norm.__dict__.get("forward"), look) for norm, look in looks]
    try:
        for norm, _, look in seen:
            norm.__dict__["forward"] = _looking(norm, norm.forward, look)
        yield
    finally:
        for norm, forward, _ in seen:
            norm.__dict__.pop("forward", None)
            if forward is not None:
                norm.__dict__["forward"] = forward


def _looking(norm: _BatchNorm, forward: Callable, look: Look) -> Callable:
    """The layer's `forward`, but it looks at its input first."""
    is_torchs = getattr(forward, "__func__", getattr(forward, "func", None)) is _BatchNorm.forward

    def looking(*args: Any, **kwargs: Any) -> Any:
        x = args[0] if args else kwargs["input"]
        with torch._C.DisableTorchFunction():
            sums = look(x)
        moments = None if sums is None or not is_torchs else _moments(norm, x, sums)
        if moments is None:
            return forward(*args, **kwargs)
        norm._check_input_dim(x)
        cudnn = torch.backends.cudnn.enabled
        return torch.batch_norm(x, norm.weight, norm.bias, *moments, False, 0.0, norm.eps, cudnn)

    return looking


def _moments(norm: _BatchNorm, x: Tensor, sums: SampleSums) -> tuple[Tensor, Tensor] | None:
    """The mean and variance that the layer normalises x by; None where it had better find them itself.

    The sums serve where they are those of the batch in the precision of torch's BN, and no gradient is asked for.
    """
    if not norm.training and norm.running_mean is not None and norm.running_var is not None:
        return norm.running_mean, norm.running_var
    is_plain = type(x) is Tensor and not torch.is_grad_enabled() and x.dtype == sums.sums.dtype
    is_fit = sums.sums.shape[1:] == x.shape[:2] and (norm.weight is None or norm.weight.dtype == x.dtype)
    return sums.moments() if is_plain and is_fit and sums.positions > 1 else None
