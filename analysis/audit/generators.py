"""Random generators: the global ones of torch, numpy and Python, and those that a model holds."""

import functools
import random
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

_OF_NUMPY = (np.random.RandomState, np.random.Generator, np.random.BitGenerator)


class Source(NamedTuple):
    """A generator by its library, with what reads its state and what writes it."""

    library: str
    read: Callable[[], Any]
    write: Callable[[Any], Any]


@functools.lru_cache(1000)
def is_generator(cls: type) -> bool:
    """Whether objects of a class are random generators with a state, which the system's has not."""
    return issubclass(cls, (torch.Generator, random.Random, *_OF_NUMPY)) and not issubclass(
        cls, random.SystemRandom
    )


def _source_of(generator: Any) -> Source:
    if isinstance(generator, torch.Generator):
        return Source("torch", generator.get_state, generator.set_state)
    if isinstance(generator, random.Random):
        return Source("Python", generator.getstate, generator.setstate)
    if isinstance(generator, np.random.RandomState):
        return Source("numpy", generator.get_state, generator.set_state)
    bits: Any = generator.bit_generator if isinstance(generator, np.random.Generator) else generator
    return Source("numpy", lambda: bits.state, lambda state: setattr(bits, "state", state))


class Generators:
    """All generators that a model may draw from: the global ones, on all devices, and those `held` by it."""

    def __init__(self, held: Iterable[Any]):
        self._sources = [
            Source("torch", torch.get_rng_state, torch.set_rng_state),
            Source("numpy", np.random.get_state, np.random.set_state),
            Source("Python", random.getstate, random.setstate),
            *map(_source_of, held),
        ]
        if torch.cuda.is_available():
            self._sources.append(Source("torch", torch.cuda.get_rng_state_all, torch.cuda.set_rng_state_all))

    @staticmethod
    def seed(seed: int) -> None:
        """Seed the global ones."""
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)

    def states(self) -> list[Any]:
        """The states of all, as `give_back` takes them."""
        return [source.read() for source in self._sources]

    def give_back(self, states: list[Any]) -> None:
        """Give all of them their states back."""
        for source, state in zip(self._sources, states, strict=True):
            source.write(state)

    def drawn_since(self, states: list[Any]) -> set[str]:
        """The libraries whose generators are not in these states any more."""
        return {
            source.library
            for source, state in zip(self._sources, states, strict=True)
            if _comparable(source.read()) != _comparable(state)
        }


def _comparable(state: Any) -> Any:
    if isinstance(state, Tensor):
        return bytes(state.cpu().numpy())
    if isinstance(state, np.ndarray):
        return state.tobytes()
    if isinstance(state, dict):
        return {key: _comparable(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [_comparable(value) for value in state]
    return state
