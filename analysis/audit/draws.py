"""Random tensors that a forward draws itself: what their mean is on the way to becoming a factor.

Stochastic depth and hand-written dropout draw random numbers, compare, round and scale them, and multiply an
activation by the result. The same arithmetic on the *means* of the random numbers gives the mean of the
factor, and with it the activation without noise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from analysis.audit.nests import mapped
from analysis.audit.trails import ByTensor

UNIFORM = {"rand", "rand_like", "uniform_"}
NORMAL = {"randn", "randn_like", "normal_"}
BERNOULLI = {"bernoulli", "bernoulli_"}
GENERATORS = UNIFORM | NORMAL | BERNOULLI
COMPARISONS = {"lt": 0, "le": 0, "__lt__": 0, "__le__": 0, "gt": 1, "ge": 1, "__gt__": 1, "__ge__": 1}
_STILL_UNIFORM = {"add", "radd", "iadd", "sub", "view", "reshape", "to"}


@dataclass(frozen=True)
class Draw:
    """A random tensor on its way to become a factor: its mean, and whether it is uniform of width 1 as yet."""

    mean: Tensor
    is_uniform: bool = False


class Draws:
    """The random tensors of one forward pass."""

    def __init__(self) -> None:
        self._known = ByTensor()

    def __bool__(self) -> bool:
        return bool(self._known)

    def get(self, tensor: Tensor) -> Draw | None:
        """What is known of a random tensor; None for one that is not random."""
        return self._known.get(tensor)

    def generate(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        """Run a random generator and note the mean of what it draws, if that is plain."""
        name = func.__name__
        mean: Any = 0.5 if name in UNIFORM else 0.0
        if name in BERNOULLI:
            probabilities = args[0].clone() if name == "bernoulli" else 0.5
            mean = kwargs.get("p", args[1] if len(args) > 1 else probabilities)
        is_plain = name not in ("uniform_", "normal_") or (len(args) == 1 and not kwargs)
        output = func(*args, **kwargs)
        if is_plain and isinstance(output, Tensor) and output.is_floating_point():
            self._known.put(output, Draw(torch.zeros_like(output) + mean, name in UNIFORM))
        return output

    def transform(self, func: Callable, args: tuple, kwargs: dict, random: list[Tensor]) -> Any:
        """Run an operation on random tensors alone: what comes out is random still."""
        name = func.__name__
        drawn = [self._known.get(tensor) for tensor in random]
        is_uniform = all(draw.is_uniform for draw in drawn)
        mean = None
        if name in ("floor", "floor_") and is_uniform:
            mean = drawn[0].mean - 0.5  # floor(keep + u) is 1 with probability keep
        elif name in COMPARISONS and is_uniform and len(args) == 2 and args[0] is random[0]:
            mean = abs(COMPARISONS[name] - (args[1] - drawn[0].mean + 0.5))
        elif name.rstrip("_") not in ("floor", "ceil", "round") and name not in COMPARISONS:
            mean = self._mean_of(func, args, kwargs)
        output = func(*args, **kwargs)
        if isinstance(output, Tensor):
            is_known = isinstance(mean, Tensor) and output.shape == mean.shape
            still = is_uniform and name.strip("_") in _STILL_UNIFORM
            self._known.put(output, Draw(mean, still) if is_known else None)  # type: ignore[arg-type]
        return output

    def _mean_of(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        func, args, kwargs = self.on_means(func, args, kwargs)
        try:
            return func(*mapped(args, torch.clone), **kwargs)
        except Exception:  # the operation's own errors show where it runs on its own arguments
            return None

    def on_means(self, func: Callable, args: tuple, kwargs: dict) -> tuple[Callable, tuple, dict]:
        """The same call with every random tensor replaced by its mean: function, arguments, keyword arguments."""

        def mean(value: Tensor) -> Tensor:
            draw = self._known.get(value)
            return value if draw is None else draw.mean

        return _ON_MEANS.get(func.__name__, func), mapped(args, mean), mapped(kwargs, mean)


def _where(mask: Tensor, first: Any, second: Any) -> Tensor:
    return mask * first + (1 - mask) * second


def _masked_fill(x: Tensor, mask: Tensor, value: Any) -> Tensor:
    return (1 - mask) * x + mask * value


# Functions of a random mask whose mean is no mask.
_ON_MEANS: dict[str, Callable] = {
    **{"where": _where, "masked_fill": _masked_fill, "masked_fill_": _masked_fill}
}


def relative_variance(factor: Tensor, mean: Tensor) -> float | None:
    """Var(m / E m): exact for a two-valued factor (0 or a), else from its entries; None if it cannot be told."""
    expected = mean.mean()
    if expected == 0 or not torch.allclose(mean, expected):
        return None
    largest = factor.max()
    if ((factor == 0) | (factor == largest)).all():
        return float(largest / expected - 1) if largest > 0 else None
    return float((factor / expected).var())


def sharing(factor: Tensor, output: Tensor) -> str:
    """What shares one entry of the factor: element, channel or sample; "" for anything else."""
    if factor.shape == output.shape:
        return "element"
    if factor.dim() != output.dim() or factor.shape[0] != output.shape[0]:
        return ""
    if factor.numel() == output.shape[0]:
        return "sample"
    is_per_channel = factor.numel() == output.shape[0] * output.shape[1] == factor[:, :, :1].numel()
    return "channel" if is_per_channel else ""
