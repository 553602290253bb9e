"""A tape: what was computed once, computed again in the same memory.

A step of a small network is a hundred calls from Python, which take longer than what they compute. A `Tape`
records one step: every kernel and every operation of torch's, and the tensors that they read and write. Played
again, it reads what has been written into these tensors since. Kernels that follow one another become one call and
run member by member: what one of them writes is still in the cache when the next one reads it.
"""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from experiments.kernels.language import Code, Integer, IntegerPointer
from experiments.kernels.machine import THREAD_NANOSECONDS, Work, compiled, heard_by, over_threads

# These make tensors whose numbers are not set, so they need not be done again.
_UNSET = {
    torch.ops.aten.empty.memory_format,
    torch.ops.aten.empty_like.default,
    torch.ops.aten.empty_strided.default,
}


class Tape:
    """What was computed while it recorded, to be computed again, to the bit.

        with tape.recording():
            y = f(x)
        x.copy_(another)
        tape.play()    # y is f(another)

    It is for an f that does the same operations each time, draws no random numbers, and computes each of `members`
    by itself: where their number divides a kernel's work, its parts must belong to one member after the other.
    """

    def __init__(self, members: int):
        self.members = members
        self._steps: list[_Kernel | Callable[[], object]] = []
        self._counters: list[Callable[[], object]] = []
        self._calls: list[Callable[[], object]] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record what is computed meanwhile. The memory that this takes is kept, so none of it is used twice."""
        with heard_by(self._hear), _Operations(self._keep):
            yield
        for are_shared, steps in groupby(self._steps, self._is_shared):
            calls: list[Any] = list(steps)
            self._calls += [_Kernels(self.members, calls)] if are_shared else calls
        self._calls += self._counters

    @torch.no_grad()
    def play(self) -> None:
        """Compute everything once more."""
        for call in self._calls:
            call()

    def _hear(self, count: int, work: Callable[[int, int], None]) -> None:
        self._steps.append(_Kernel(count, work))

    def _keep(self, operation: Any, arguments: tuple, options: dict, made: Any) -> None:
        if operation.is_view or operation in _UNSET:
            return
        again = _again(operation, arguments, options, made)
        # Counters are whole numbers, which kernels do not touch: they need not stand between two.
        in_place = operation._schema.is_mutable and isinstance(made, Tensor)
        (self._counters if in_place and not made.is_floating_point() else self._steps).append(again)

    def _is_shared(self, step: object) -> bool:
        return isinstance(step, _Kernel) and isinstance(step.work, Work) and step.count % self.members == 0


class _Kernel(NamedTuple):
    """A call of `over_threads`."""

    count: int
    work: Callable[[int, int], None]

    def __call__(self) -> None:
        self.work(0, self.count)


def play_kernels(
    code: Code,
    table: IntegerPointer,  # [kernels, 3]: address, address of the arguments, parts of its work a member
    kernels: Integer,
    start: Integer,
    stop: Integer,
) -> None:
    """Do the work of all kernels for the members [start, stop), one member after the other."""
    with code.loop(start, stop) as member, code.loop(0, kernels) as kernel:
        address, arguments, parts = (table.integer(kernel * 3 + column) for column in range(3))
        code.call(address, arguments, member * parts, (member + 1) * parts)


class _Kernels:
    """Kernels that follow one another, as one call."""

    def __init__(self, members: int, kernels: Sequence[_Kernel]):
        self.members, self.kernels = members, kernels  # whose tensors live as long as these
        works: list[Any] = [kernel.work for kernel in kernels]
        self.arguments = [ctypes.create_string_buffer(work.arguments) for work in works]
        table = [
            [work.address, ctypes.addressof(arguments), kernel.count // members]
            for kernel, work, arguments in zip(kernels, works, self.arguments, strict=True)
        ]
        self.work = compiled(play_kernels, torch.float32)(table=torch.tensor(table), kernels=len(table))

    def __call__(self) -> None:
        over_threads(self.members, self.work, THREAD_NANOSECONDS)


class _Operations(TorchDispatchMode):
    """Tells `keep` of each of torch's operations, with its arguments and what it made."""

    def __init__(self, keep: Callable[[Any, tuple, dict, Any], None]):
        super().__init__()
        self.keep = keep

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler, which takes a second

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.keep(func, args, kwargs or {}, made)
        return made


def _again(operation: Any, arguments: tuple, options: dict, made: Any) -> Callable[[], object]:
    """Return what does an operation again, and writes what it makes over what it has made."""
    if operation._schema.is_mutable:  # it works in place
        return lambda: operation(*arguments, **options)
    if isinstance(made, Tensor):
        return lambda: made.copy_(operation(*arguments, **options))

    def run() -> None:
        for place, result in zip(made, operation(*arguments, **options), strict=True):
            if place is not None:  # a gradient that nobody wants
                place.copy_(result)

    return run
