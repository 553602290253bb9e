"""Where noise comes from in a forward pass: noisy calls of torch, random tensors that it draws, noise sites.

Stochastic depth and hand-written dropout draw random numbers, compare, round and scale them, and multiply an
activation by the result. The same arithmetic on the *means* of the random numbers gives the mean of the
factor, and with it the activation without noise.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .. import theory
from .batches import map_tensors
from .trails import ByTensor

DROPOUTS = {  # by name: what shares one factor; "" for noise that is more than a factor
    **dict.fromkeys(("dropout", "dropout_", "native_dropout"), "element"),
    **dict.fromkeys(
        ("dropout1d", "dropout2d", "dropout3d", "feature_dropout", "feature_dropout_"), "channel"
    ),
    **dict.fromkeys(("alpha_dropout", "alpha_dropout_"), ""),
    **dict.fromkeys(("feature_alpha_dropout", "feature_alpha_dropout_"), ""),
}
RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}


@dataclass(frozen=True)
class NoisyCall:
    """A call with noise in it.

    `signal`: what it multiplies by a factor; where it does something else, `quiet_args` and `quiet_kwargs` are its
    arguments without the noise. `shares`: what has one factor, see `trails.Link`.
    """

    description: str
    signal: Tensor | None = None
    noise_variance: float = 0.0
    shares: str = ""
    quiet_args: tuple = ()
    quiet_kwargs: dict = field(default_factory=dict)


def noisy_call(func: Any, args: tuple, kwargs: dict) -> NoisyCall | None:
    """The noise in a call of torch; None for a call without any."""
    name = getattr(func, "__name__", "")
    if name in DROPOUTS:
        return _dropout(name, args, kwargs)
    if name == "scaled_dot_product_attention":
        return _switched_off(args, kwargs, "attention dropout", dropout_p=(4, 0.0))
    if name == "multi_head_attention_forward":
        if not kwargs.get("training", True):
            return None
        return _switched_off(args, kwargs, "attention dropout", dropout_p=(10, 0.0))
    if name == "rrelu":
        return _switched_off(args, kwargs, "random slope", training=(3, False))
    if name in RECURRENT:
        is_packed = isinstance(args[1], Tensor) and isinstance(args[3], list)  # then batch sizes come second
        if not args[6 + is_packed]:
            return None
        return _switched_off(args, kwargs, "dropout between its layers", dropout=(5 + is_packed, 0.0))
    return None


class Quiet(TorchFunctionMode):
    """Runs noisy calls of torch without their noise."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run an operation."""
        call = noisy_call(func, args, kwargs or {})
        if call is None:
            return func(*args, **(kwargs or {}))
        return func(*call.quiet_args, **call.quiet_kwargs) if call.signal is None else call.signal


def _dropout(name: str, args: tuple, kwargs: dict) -> NoisyCall | None:
    rate = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
    default = "alpha" not in name  # of the functions with a default; the others are always told
    training = kwargs.get("training", kwargs.get("train", args[2] if len(args) > 2 else default))
    if not training or rate <= 0:
        return None
    x = args[0] if args else kwargs["input"]
    if rate >= 1:  # nothing is left that the exact law could be of
        return NoisyCall(f"F.{name} {rate:g}", x)
    noise_variance = theory.noise_variance("dropout", float(rate))
    return NoisyCall(f"F.{name} {rate:g}", x, noise_variance, DROPOUTS[name])


def _switched_off(args: tuple, kwargs: dict, description: str, **switch: tuple[int, Any]) -> NoisyCall | None:
    """The call with one argument, given as keyword=(position, value without noise), switched off."""
    ((keyword, (position, off)),) = switch.items()
    quiet_args, quiet_kwargs = args, kwargs
    if len(args) > position:
        present = args[position]
        quiet_args = (*args[:position], off, *args[position + 1 :])
    else:
        present = kwargs.get(keyword, off)
        quiet_kwargs = {**kwargs, keyword: off}
    if not present:
        return None
    return NoisyCall(description, quiet_args=quiet_args, quiet_kwargs=quiet_kwargs)


UNIFORM = {"rand", "rand_like", "uniform_"}
NORMAL = {"randn", "randn_like", "normal_"}
BERNOULLI = {"bernoulli", "bernoulli_"}
GENERATORS = UNIFORM | NORMAL | BERNOULLI
LEAVES_TORCH = {"__bool__", "__float__", "__int__", "__index__", "item", "tolist", "numpy", "__array__"}
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
        self._by_tensor = ByTensor()

    def __bool__(self) -> bool:
        return bool(self._by_tensor)

    def get(self, tensor: Tensor) -> Draw | None:
        """The draw that a random tensor comes from; None for one that is not random."""
        return self._by_tensor.get(tensor)

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
            self._by_tensor.put(output, Draw(torch.zeros_like(output) + mean, name in UNIFORM))
        return output

    def transform(self, func: Callable, args: tuple, kwargs: dict, random: list[Tensor]) -> Any:
        """Run an operation on random tensors alone: what comes out is random still."""
        name = func.__name__
        draws = [self._by_tensor.get(tensor) for tensor in random]
        is_uniform = all(draw.is_uniform for draw in draws)
        mean = None
        if name in ("floor", "floor_") and is_uniform:
            mean = draws[0].mean - 0.5  # floor(keep + u) is 1 with probability keep
        elif name in COMPARISONS and is_uniform and len(args) == 2 and args[0] is random[0]:
            mean = abs(COMPARISONS[name] - (args[1] - draws[0].mean + 0.5))
        elif name.rstrip("_") not in ("floor", "ceil", "round") and name not in COMPARISONS:
            mean = self._mean_of(func, args, kwargs)
        output = func(*args, **kwargs)
        if isinstance(output, Tensor):
            is_known = isinstance(mean, Tensor) and output.shape == mean.shape
            still = is_uniform and name.strip("_") in _STILL_UNIFORM
            self._by_tensor.put(output, Draw(mean, still) if is_known else None)  # type: ignore[arg-type]
        return output

    def _mean_of(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        func, args, kwargs = self.on_means(func, args, kwargs)
        try:
            return func(*map_tensors(args, torch.clone), **kwargs)
        except Exception:  # the operation's own errors show where it runs on its own arguments
            return None

    def on_means(self, func: Callable, args: tuple, kwargs: dict) -> tuple[Callable, tuple, dict]:
        """The same call with every random tensor replaced by its mean: function, arguments, keyword arguments."""

        def mean(value: Tensor) -> Tensor:
            draw = self._by_tensor.get(value)
            return value if draw is None else draw.mean

        return _ON_MEANS.get(func.__name__, func), map_tensors(args, mean), map_tensors(kwargs, mean)


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
    """The part of `output` that shares one entry of the factor: element, channel or sample; "" for any other."""
    if factor.shape == output.shape:
        return "element"
    if factor.dim() != output.dim() or factor.shape[0] != output.shape[0]:
        return ""
    if factor.numel() == output.shape[0]:
        return "sample"
    is_per_channel = factor.numel() == output.shape[0] * output.shape[1] == factor[:, :, :1].numel()
    return "channel" if is_per_channel else ""


def is_noise_site(module: nn.Module) -> bool:
    """Whether a module is the harness's own `NoiseSite`, told by name: nothing of it is imported."""
    return type(module).__name__ == "NoiseSite" and hasattr(module, "factor")
