"""Leaving a model as it was found: a snapshot of everything that it holds, see `held`, put back in place.

Every object stays the object it is, and gets its old contents back. What a model does not hold stays as the passes
leave it.
"""

import copy
import operator
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from .batches import AuditError, reason
from .generators import Generators, is_generator
from .held import CONTAINERS, container_of, has, held_by, slots_of

# The generators belong to the whole process, and modes and hooks to all who call the model.
_ONE_AT_A_TIME = threading.RLock()

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by their bytes
_MISSING = object()


@contextmanager
def unchanged(model: nn.Module, *data: Any) -> Iterator["Snapshot"]:
    """Put back at the end, also after an error or Ctrl-C, what the model holds and all random generators.

    Costs one copy of the model's tensors. Nothing of the user's `data` is put back, as they go on while it lasts.
    A second thread waits until the first is through.

    Raises AuditError for a tensor that cannot be copied, or cannot be put back.
    """
    with _ONE_AT_A_TIME:
        snapshot = Snapshot(model, *data)
        try:
            yield snapshot
        finally:
            _to_the_end(snapshot.put_back)


def _to_the_end(work: Callable[[], None]) -> None:
    """Do work that may be done twice, and let Ctrl-C wait for it."""
    interrupt = None
    while True:
        try:
            work()
            break
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


class Snapshot:
    """The contents of everything that a model holds, and the states of all random generators.

    Nothing is copied after it is made: `restore` writes to tensors that were written to, as their version counters
    tell. A write past the counter, through `.data` or into a numpy array, shows where bits are compared.
    """

    def __init__(self, model: nn.Module, *data: Any):
        self._parts: list[Any] = []
        self._empty: list[Any] = []  # containers, most of those of a module
        held = []
        with torch.no_grad(), torch._C.DisableTorchFunction():
            for value in held_by(model, *data):
                if is_generator(type(value)):
                    held.append(value)
                else:
                    self._note(value)
        self.generators = Generators(held)
        self._states = self.generators.states()

    def _note(self, value: Any) -> None:
        if (base := container_of(type(value))) is not None:
            if value:
                self._parts.append(_Container(value, base))
            else:
                self._empty.append(value)
        elif isinstance(value, np.ndarray):
            self._parts.append(_Array(value))
        # A wrapper's numbers are in the tensors that are its attributes.
        elif isinstance(value, Tensor) and not is_traceable_wrapper_subclass(value):
            self._parts.append(_Tensor(value))
        self._parts += [_Slot(value, slot) for slot in slots_of(type(value))]

    def restore(self, thorough: bool) -> None:
        """Give everything but the generators its contents back; `thorough`: compare all bits.

        What is once found to be written past the version counters is compared ever after.

        Raises AuditError if something cannot be put back; the rest is.
        """
        failed: Exception | None = None
        with torch.no_grad(), torch._C.DisableTorchFunction():
            for part in self._parts:
                try:
                    part.restore(thorough)
                except Exception as error:
                    failed = error
        for container in self._empty if any(self._empty) else ():
            container_of(type(container)).clear(container)
        if failed is not None:
            raise AuditError(f"A part of the model could not be put back as it was: {reason(failed)}.")

    def put_back(self) -> None:
        """Give everything its contents back, bit for bit, and the generators their states."""
        try:
            self.restore(thorough=True)
        finally:
            self.generators.give_back(self._states)


def copied(model: nn.Module) -> nn.Module:
    """A copy of the model; tensors amid a graph of gradients, as of `weight_norm`, lose their past in it.

    Raises AuditError for a model that cannot be copied.
    """
    memo = {
        id(value): value.detach().clone()
        for value in held_by(model)
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # the user's classes may raise anything
        raise AuditError(f"The model cannot be copied: {reason(error)}.") from error


class _Container:
    """A dict, list, set or deque that is not empty."""

    def __init__(self, container: Any, base: Any):
        self._read, self._fill = CONTAINERS[base]
        self._container, self._clear = container, base.clear
        self._is_dict = isinstance(container, dict)
        self._contents = (dict if self._is_dict else list)(self._read(container))

    def restore(self, thorough: bool) -> None:
        # To fill a dict takes no longer than to look through it; a set might come out in another order.
        if not self._is_dict and self._is_as_before():
            return
        self._clear(self._container)
        self._fill(self._container, self._contents)

    def _is_as_before(self) -> bool:
        now = list(self._read(self._container))
        return len(now) == len(self._contents) and all(map(operator.is_, now, self._contents))


class _Slot:
    """An attribute in `__slots__`."""

    def __init__(self, owner: Any, slot: types.MemberDescriptorType):
        self._owner, self._slot = owner, slot
        self._value = slot.__get__(owner) if has(owner, slot) else _MISSING

    def restore(self, thorough: bool) -> None:
        if self._value is not _MISSING:
            self._slot.__set__(self._owner, self._value)
        elif has(self._owner, self._slot):
            self._slot.__delete__(self._owner)


class _Tensor:
    """A tensor with its memory, shape and bits, and whether it takes gradients."""

    def __init__(self, tensor: Tensor):
        self._tensor = tensor
        try:
            self._home = tensor.detach()  # stays at the tensor's memory, also where that is given another
            self._bits = self._home.clone()
        except Exception as error:
            kind = f"{type(tensor).__name__} of shape {tuple(tensor.shape)}"
            raise AuditError(f"A tensor of the model, {kind}, cannot be copied: {reason(error)}.") from error
        self._is_strided = tensor.layout is torch.strided
        self._bytes = tensor.untyped_storage().nbytes() if self._is_strided else 0
        self._requires_grad, self._grad = tensor.requires_grad, tensor.grad if tensor.is_leaf else None
        # Tensors made in inference mode have no counter.
        self._is_past_counter = self._has_no_counter = tensor.is_inference()
        self._version = self._counter()

    def _counter(self) -> int:
        return 0 if self._has_no_counter else self._tensor._version

    def restore(self, thorough: bool) -> None:
        is_written = self._counter() != self._version
        is_moved = self._is_strided and not self._tensor.is_set_to(self._home)
        if not (is_written or is_moved or thorough or self._is_past_counter):
            return
        with torch.inference_mode(self._has_no_counter):
            if self._is_strided:
                self._restore_strided(is_moved, is_written)
            else:  # sparse, say, whose bits cannot be compared
                self._tensor.data = self._bits.clone()
        if self._tensor.requires_grad != self._requires_grad:
            self._tensor.requires_grad_(self._requires_grad)
        if self._tensor.is_leaf and self._tensor.grad is not self._grad:
            self._tensor.grad = self._grad
        self._version = self._counter()

    def _restore_strided(self, is_moved: bool, is_written: bool) -> None:
        memory = self._home.untyped_storage()
        if memory.nbytes() < self._bytes:  # some free a weight's memory between forwards
            memory.resize_(self._bytes)
        if is_moved:
            self._tensor.data = self._home
        if is_written or not _same_bits(self._home, self._bits):
            self._is_past_counter |= not is_written
            self._home.copy_(self._bits)


def _same_bits(first: Tensor, second: Tensor) -> bool:
    if first.is_floating_point():  # as numbers, nan would differ from itself, and 0 would be -0
        integer = _INTEGERS[first.element_size()]
        first, second = first.view(integer), second.view(integer)
    return torch.equal(first, second)


class _Array:
    """A numpy array."""

    def __init__(self, array: np.ndarray):
        self._array, self._numbers, self._is_writeable = array, array.copy(), array.flags.writeable
        self._is_written = array.dtype.hasobject and array.flags.writeable  # objects cannot be compared

    def restore(self, thorough: bool) -> None:
        if not (thorough or self._is_written):
            return
        if self._is_written or not np.array_equal(self._array, self._numbers):
            self._is_written = True
            self._array.flags.writeable = True
            self._array[...] = self._numbers
        self._array.flags.writeable = self._is_writeable
