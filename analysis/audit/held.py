"""What a model holds: everything with contents that can be reached from it.

That is its modules with their attributes, modes and hooks; parameters, buffers, gradients and all other tensors;
numpy arrays; lists, dicts, sets and deques; objects of any class that has its attributes in Python; and random
generators.

Out of reach is what functions hold and close over, what methods are of, what classes hold, and what is in files.
Left alone, although a model may hold them, are data sets and loaders, whoever keeps a lock, a thread, an open file
or a running generator, torch's machinery, and what has its state hidden in another language.
"""

import enum
import functools
import io
import logging
import threading
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .generators import is_generator

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
CONTAINERS: dict[type, tuple[Callable, Callable]] = {
    OrderedDict: (OrderedDict.items, OrderedDict.update),
    dict: (dict.items, dict.update),
    list: (list.__iter__, list.extend),
    set: (set.__iter__, set.update),
    deque: (deque.__iter__, deque.extend),
}


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
    contents += [slot.__get__(value) for slot in slots_of(type(value)) if has(value, slot)]
    return [*contents, _attributes_of(value)]


def _attributes_of(value: Any) -> dict[str, Any] | None:
    """An object's own table of attributes; None if it has none, or if somebody else is at work on it."""
    if type(value) in CONTAINERS or not type(value).__dictoffset__:
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
def slots_of(cls: type) -> list[types.MemberDescriptorType]:
    """The attributes of a class's objects that are not in a table, but in `__slots__`."""
    return [
        slot
        for base in cls.__mro__
        if "__slots__" in vars(base)
        for slot in vars(base).values()
        if isinstance(slot, types.MemberDescriptorType)
    ]


@functools.lru_cache(1000)
def container_of(cls: type) -> Any:
    """The class of `CONTAINERS` that a class belongs to; None if it is of no container."""
    return next((base for base in CONTAINERS if issubclass(cls, base)), None)


def has(value: Any, slot: types.MemberDescriptorType) -> bool:
    """Whether an object's attribute in `__slots__` is set."""
    try:
        slot.__get__(value)
    except AttributeError:
        return False
    return True
