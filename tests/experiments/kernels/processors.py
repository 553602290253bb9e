"""This processor in the place of others, which have narrower vectors and fewer registers."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from experiments.kernels import machine, matrices, tiles


@contextmanager
def vectors_of(vector_bytes: int) -> Iterator[None]:
    """Have kernels compute with vectors of so many bytes: 16, 32 or 64."""
    caches = machine.compiled, tiles.tile_vectors, matrices._tile
    rooms = "experiments.kernels.", "experiments.layers."
    modules = [module for name, module in sys.modules.items() if name.startswith(rooms)]
    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            if hasattr(module, "lanes"):
                patch.setattr(module, "lanes", lambda dtype: vector_bytes // dtype.itemsize)
            if hasattr(module, "accumulators"):
                patch.setattr(module, "accumulators", lambda: 24 if vector_bytes == 64 else 12)
        try:
            for cache in caches:
                cache.cache_clear()
            yield
        finally:
            for cache in caches:
                cache.cache_clear()
