"""Tensors inside nested tuples, lists and mappings: finding them, and mapping a function over them."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor in a nest, in order."""
    found: list[Tensor] = []
    _collect(value, found)
    return found


def _collect(value: Any, found: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        found.append(value)
    elif isinstance(value, tuple | list):
        for item in value:
            _collect(item, found)
    elif isinstance(value, Mapping):
        for item in value.values():
            _collect(item, found)


def mapped(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """The same nest with `function` of its tensors; mappings become dicts, everything else stays as it is."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a named tuple
        return type(value)(*(mapped(item, function) for item in value))
    if type(value) in (tuple, list):
        return type(value)(mapped(item, function) for item in value)
    if isinstance(value, Mapping):
        return {key: mapped(item, function) for key, item in value.items()}
    return value
