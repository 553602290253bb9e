"""Trails of noise through a forward pass: the noise in each activation, and the activation without it.

A `Trail` belongs to one activation and holds a `Link` for each noise that entered it. A link follows the exact law
along the way from its noise to a BN layer: noise m with variance sigma^2 on a signal x adds
sigma^2 * mean(L2(x^2)) behind one linear layer, see `analysis.theory`. It carries x up to that layer and the added
variance from there on; shortcuts, reshaping and concatenation keep it alive, everything else (a nonlinearity, a
second linear layer) ends the prediction.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..theory.layers import (
    Convolution,
    response_without_bias,
    squared_response,
    squared_response_shared,
)

STRUCTURE = {
    *("view", "reshape", "flatten", "unflatten", "permute", "transpose", "movedim", "squeeze", "unsqueeze"),
    *(
        "contiguous",
        "clone",
        "to",
        "float",
        "cat",
        "concat",
        "chunk",
        "split",
        "unbind",
        "__getitem__",
        "pad",
    ),
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"),  # inactive
}
KEEPS_CHANNELS = {"contiguous", "clone", "to", "float", "dropout", "dropout2d", "dropout3d"}
SUMS = {"add", "add_", "__add__", "__radd__", "__iadd__", "sub", "sub_", "__sub__", "__isub__"}
LAYERS = {"linear": (), "conv1d": (3, 4, 5, 6), "conv2d": (3, 4, 5, 6), "conv3d": (3, 4, 5, 6)}


@dataclass(frozen=True)
class Link:
    """One noise on its way to BN.

    `shares`: what has one factor, `element`, `channel` or `sample`; "" where the law does not hold (alpha
    dropout, additive noise). Of `signal` (before the linear layer) and `added` (behind it) one is set while the
    law can be followed. All tensors are shaped as the activation they belong to.
    """

    name: str
    noise_variance: float
    shares: str
    signal: Tensor | None
    added: Tensor | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the law can still be followed."""
        return self.signal is not None or self.added is not None

    def ended(self) -> "Link":
        """The same noise without a prediction."""
        return replace(self, signal=None, added=None)

    def added_variance(self) -> Tensor | None:
        """The variance that the noise adds to each element here; None where it cannot be followed."""
        if self.added is not None or self.signal is None:
            return self.added
        return self.noise_variance * squared_response(None, self.signal)

    def through_layer(self, layer: nn.Module) -> "Link":
        """The link behind a linear layer or convolution."""
        if self.signal is None or (self.shares == "channel" and self.signal.dim() == 3):
            return self.ended()
        if self.shares == "element":
            response = squared_response(layer, self.signal)
        elif self.shares == "channel":
            response = squared_response_shared(layer, self.signal)
        else:
            response = response_without_bias(layer, self.signal) ** 2
        return replace(self, signal=None, added=self.noise_variance * response)


def follow(
    link: Link,
    func: Callable,
    module: nn.Module,
    args: tuple,
    kwargs: dict,
    held_by: Tensor,
    shape: torch.Size,
) -> Link | list[Link]:
    """The link behind one operation, a list where the operation has several outputs.

    `held_by` is the argument that the noise is in, `module` the module whose forward calls `func`, `shape` that
    of the output.
    """
    name = func.__name__
    if not link.is_alive:
        return link
    if name in LAYERS:
        return link.through_layer(module) if _is_plain(module, name, args, kwargs) else link.ended()
    if name in SUMS and "alpha" not in kwargs:
        return _map(link, lambda tensor: tensor.expand(shape))
    scale = _scale(name, args)
    if scale is not None:
        return replace(
            link,
            signal=None if link.signal is None else link.signal * scale,
            added=None if link.added is None else link.added * scale**2,
        )
    if name not in STRUCTURE or (name == "pad" and not _pads_zeros(args, kwargs)):
        return link.ended()
    if link.shares == "channel" and link.signal is not None and name not in KEEPS_CHANNELS:
        return link.ended()

    def moved(tensor: Tensor) -> Any:
        def swap(value: Any) -> Any:
            if isinstance(value, Tensor):
                return (
                    tensor
                    if value is held_by
                    else torch.zeros_like(value)
                    if name in ("cat", "concat")
                    else value
                )
            return type(value)(map(swap, value)) if isinstance(value, list | tuple) else value

        return func(*map(swap, args), **{key: swap(value) for key, value in kwargs.items()})

    return _map(link, moved)


def _map(link: Link, function: Callable[[Tensor], Any]) -> Link | list[Link]:
    field = "added" if link.added is not None else "signal"
    result = function(getattr(link, field))
    if isinstance(result, Tensor):
        return replace(link, **{field: result})
    return [replace(link, **{field: tensor}) for tensor in result]


def _is_plain(module: nn.Module, name: str, args: tuple, kwargs: dict) -> bool:
    """Whether the call is the layer's own, with its weight and its geometry and nothing else."""
    if not isinstance(module, nn.Linear | Convolution) or kwargs or len(args) < 2:
        return False
    if args[1] is not module.weight:
        return False
    if isinstance(module, nn.Linear):
        return name == "linear"
    geometry = (module.stride, module.padding, module.dilation, module.groups)
    return module.padding_mode == "zeros" and args[3:] == geometry


def _scale(name: str, args: tuple) -> float | None:
    """The number that the operation multiplies by, if it is one that does."""
    numbers = [value for value in args if isinstance(value, int | float)]
    if len(args) != 2 or len(numbers) != 1:
        return None
    if name.strip("_") in ("mul", "rmul", "imul"):
        return float(numbers[0])
    is_quotient = name.strip("_") in ("div", "truediv", "itruediv") and isinstance(args[0], Tensor)
    return 1 / numbers[0] if is_quotient and numbers[0] else None


def _pads_zeros(args: tuple, kwargs: dict) -> bool:
    mode = kwargs.get("mode", args[2] if len(args) > 2 else "constant")
    value = kwargs.get("value", args[3] if len(args) > 3 else 0)
    return mode == "constant" and not value


@dataclass
class Trail:
    """The noise in one activation, and the activation without it.

    `clean`: the activation without the noise that entered since the last BN; None where it has none, or where
    following failed. `links`: that noise, by a number for each time that noise entered. `upstream`: the names of
    the noise from before the last BN.
    """

    clean: Tensor | None = None
    links: dict[int, Link] = field(default_factory=dict)
    upstream: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """All noise that ever reached this activation."""
        return self.upstream | {link.name for link in self.links.values()}

    @property
    def is_lost(self) -> bool:
        """Whether there is noise, but no activation without it."""
        return bool(self.links) and self.clean is None


class ByTensor:
    """A table by the identity of tensors, whose entries go when their tensor goes."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref, Any]] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def get(self, tensor: Tensor) -> Any:
        """The tensor's entry; None if it has none."""
        entry = self._entries.get(id(tensor))
        return entry[1] if entry and entry[0]() is tensor else None

    def put(self, tensor: Tensor, value: Any) -> None:
        """Set the tensor's entry; None takes it away."""
        key = id(tensor)
        if value is None:
            self._entries.pop(key, None)
            return

        def forget(reference: weakref.ref) -> None:
            entry = self._entries.get(key)
            if entry and entry[0] is reference:  # another tensor may have the number by now
                del self._entries[key]

        self._entries[key] = (weakref.ref(tensor, forget), value)
