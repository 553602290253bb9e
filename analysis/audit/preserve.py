"""Leaving a model as it was found: a snapshot of everything that it holds, put back in place.

A model holds what can be reached from it: its modules with their attributes, modes and hooks; parameters, buffers,
gradients and all other tensors; numpy arrays; lists, dicts, sets and deques; objects of any class that has its
attributes in Python; random generators. Every object stays the object it is, and gets its old contents back.

What is held outside a model stays as the passes leave it: by functions and what they close over, by methods'
objects and classes, in files. So do, although a model holds them: data sets and loaders, whoever keeps a lock, a
thread, an open file or a running generator, and what has its state hidden in another language.
"""

import copy
import enum
import functools
import io
import logging
import operator
import threading
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils.data import DataLoader, Dataset

from analysis.audit.batches import AuditError, reason
from analysis.audit.generators import Generators, is_generator

# The generators belong to the whole process, and modes and hooks to all who call the model.
_ONE_AT_A_TIME = threading.RLock()

_AT_WORK = (
    *(type(threading.Lock()), type(threading.RLock()), threading.Thread, threading.local),
    *(threading.Event, threading.Condition, threading.Semaphore, threading.Barrier),
    *(io.IOBase, types.GeneratorType),
)
_LEFT_ALONE = (
    *(type(None), int, float, complex, str, bytes, type, enum.Enum, torch.dtype, torch.device),
    *(types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, functools.partial),
    *(weakref.ref, weakref.ProxyType, weakref.CallableProxyType),
    *(*_AT_WORK, logging.Filterer, Dataset, DataLoader),
)
_OF_TORCH = ("torch.nn", "torch.ao", "torch.distributions")  # its other classes are its machinery

# Containers by their class, subclasses first: what reads one and what fills it, whatever a subclass overrides.
_CONTAINERS: dict[type, tuple[Callable, Callable]] = {
    OrderedDict: (OrderedDict.items, OrderedDict.update),
    dict: (dict.items, dict.update),
    list: (list.__iter__, list.extend),
    set: (set.__iter__, set.update),
    deque: (deque.__iter__, deque.extend),
}
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
        if (base := _base_of(type(value))) is not None:
            if value:
                self._parts.append(_Container(value, base))
            else:
                self._empty.append(value)
        elif isinstance(value, np.ndarray):
            self._parts.append(_Array(value))
        # A wrapper's numbers are in the tensors that are its attributes.
        elif isinstance(value, Tensor) and not is_traceable_wrapper_subclass(value):
            self._parts.append(_Tensor(value))
        self._parts += [_Slot(value, slot) for slot in _slots_of(type(value))]

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
            _base_of(type(container)).clear(container)
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


def held_by(model: nn.Module, *data: Any) -> Iterator[Any]:
    """Everything with contents that the model holds, each object once; not what it holds through `data` alone."""
    seen = {id(value) for value in data}
    waiting: list[Any] = [model, *model.parameters(), *model.buffers()]  # TorchScript hides its own
    while waiting:
        value = waiting.pop()
        if id(value) in seen or _is_of(type(value), _LEFT_ALONE):
            continue
        seen.add(id(value))
        yield value
        if not is_generator(type(value)):
            waiting += _contents_of(value)


def _contents_of(value: Any) -> list[Any]:
    """What an object holds directly, its table of attributes among it."""
    contents = []
    if isinstance(value, dict):
        contents = list(dict.values(value))
    elif isinstance(value, list | tuple | set | frozenset | deque):
        contents = list(value)
    elif isinstance(value, Tensor):
        contents = [value.grad] if value.is_leaf else []
    elif isinstance(value, np.ndarray):
        contents = list(value.flat) if value.dtype.hasobject else []
    contents += [slot.__get__(value) for slot in _slots_of(type(value)) if _has(value, slot)]
    return [*contents, _attributes_of(value)]


def _attributes_of(value: Any) -> dict[str, Any] | None:
    """An object's own table of attributes; None if it has none, or if somebody else is at work on it."""
    if type(value) in _CONTAINERS or not type(value).__dictoffset__:
        return None
    own = object.__getattribute__(value, "__dict__")
    if isinstance(value, nn.Module | Tensor):
        return own
    of = type(value).__module__
    is_machinery = of.split(".")[0] == "torch" and not of.startswith(_OF_TORCH)
    return None if is_machinery or any(_is_of(type(held), _AT_WORK) for held in own.values()) else own


@functools.lru_cache(1000)  # what is asked of every object is answered once for its class
def _is_of(cls: type, classes: tuple[type, ...]) -> bool:
    return issubclass(cls, classes)


@functools.lru_cache(1000)
def _slots_of(cls: type) -> list[types.MemberDescriptorType]:
    """The attributes of a class's objects that are not in a table, but in `__slots__`."""
    return [
        slot
        for base in cls.__mro__
        if "__slots__" in vars(base)
        for slot in vars(base).values()
        if isinstance(slot, types.MemberDescriptorType)
    ]


@functools.lru_cache(1000)
def _base_of(cls: type) -> Any:
    """The class of `_CONTAINERS` that a class belongs to; None if it is of no container."""
    return next((base for base in _CONTAINERS if issubclass(cls, base)), None)


def _has(value: Any, slot: types.MemberDescriptorType) -> bool:
    try:
        slot.__get__(value)
    except AttributeError:
        return False
    return True


class _Container:
    """A dict, list, set or deque that is not empty."""

    def __init__(self, container: Any, base: Any):
        self._read, self._fill = _CONTAINERS[base]
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
        self._value = slot.__get__(owner) if _has(owner, slot) else _MISSING

    def restore(self, thorough: bool) -> None:
        if self._value is not _MISSING:
            self._slot.__set__(self._owner, self._value)
        elif _has(self._owner, self._slot):
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
