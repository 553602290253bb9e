"""Calls of torch that are noise in themselves: which they are, how strong, and the same call without it."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from analysis import theory

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
    arguments without the noise. `shares`: what has one factor, see `chain.Link`.
    """

    description: str
    signal: Tensor | None = None
    noise_variance: float = 0.0
    shares: str = ""
    quiet_args: tuple = ()
    quiet_kwargs: dict = field(default_factory=dict)


def noisy_call(func: Any, args: tuple, kwargs: dict) -> NoisyCall | None:
    """What noise a call of torch has in it; None for a call without any."""
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


def _dropout(name: str, args: tuple, kwargs: dict) -> NoisyCall | None:
    rate = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
    default = "alpha" not in name  # of the functions with a default; the others are always told
    training = kwargs.get("training", kwargs.get("train", args[2] if len(args) > 2 else default))
    if not training or rate <= 0:
        return None
    x = args[0] if args else kwargs["input"]
    noise_variance = theory.noise_variance("dropout", float(rate)) if rate < 1 else float("inf")
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
