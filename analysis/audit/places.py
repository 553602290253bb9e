"""Where two passes of the same batch part: the modules that get the same and give something else."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from .batches import tensors_in

CLOSE = 1e-4  # of a tensor's mean absolute number

Print = list[tuple[float, float]]  # of each tensor in a nest: its sum, and that of its absolute numbers


class Calls:
    """The calls of every module in one pass: what went in and what came out."""

    def __init__(self, model: nn.Module):
        self._names = {module: name or "the model" for name, module in model.named_modules()}
        self.of: dict[str, list[tuple[Print, Print]]] = defaultdict(
            list
        )  # by name, in the order of their ends
        self._began: list[Print] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note the calls of a pass within."""
        hooks: list[Any] = []
        for module in self._names:
            hooks.append(module.register_forward_pre_hook(self._begin, with_kwargs=True))
            hooks.append(module.register_forward_hook(self._end))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _begin(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._began.append(_print((args, kwargs)))

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        self.of[self._names[module]].append((self._began.pop(), _print(output)))


def parting(first: Calls, second: Calls) -> list[str]:
    """The innermost modules that got the same in both passes and gave something else, by name.

    Where there are none, for a norm undoes the difference, it is that around the first that got something else.
    """
    pairs = [
        (name, a, b) for name, calls in first.of.items() for a, b in zip(calls, second.of[name], strict=False)
    ]
    names = {name for name, a, b in pairs if _alike(a[0], b[0]) and not _alike(a[1], b[1])}
    around = [name.rpartition(".")[0] or "the model" for name, a, b in pairs if not _alike(a[0], b[0])]
    inner = [name for name in names if not any(other != name and _is_within(other, name) for other in names)]
    return sorted(inner) or around[:1]


def _is_within(inner: str, outer: str) -> bool:
    return outer == "the model" or inner.startswith(f"{outer}.")


def _print(value: Any) -> Print:
    return [
        (float(numbers.sum()), float(numbers.abs().sum()))
        for tensor in tensors_in(value)
        if tensor.is_floating_point() and not tensor.is_nested
        for numbers in [tensor.detach().double()]
    ]


def _alike(first: Print, second: Print) -> bool:
    return len(first) == len(second) and all(
        abs(a[0] - b[0]) <= CLOSE * a[1] and abs(a[1] - b[1]) <= CLOSE * a[1]
        for a, b in zip(first, second, strict=True)
    )
