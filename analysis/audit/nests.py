"""Tensors inside nested tuples, lists and mappings: finding them, and mapping a function over them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor in a nest, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, Mapping):
        yield from tensors_in(list(value.values()))


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
