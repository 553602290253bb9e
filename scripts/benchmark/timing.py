"""Seconds, and the machine's own rates."""

import time
from collections.abc import Callable

import torch

from experiments.networks.products import product


def seconds_of(function: Callable[[], object]) -> float:
    """Return the wall-clock seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def sgemm_rates(size: int = 1536, repeats: int = 12) -> dict[str, float]:
    """Return the best GFLOP/s over several products of square float32 matrices on all cores, by library.

    `sgemm_gflops` is torch's own `a @ b`; `onednn_gflops` is the library that large products of the harness use.
    """
    a, b = torch.randn(size, size), torch.randn(size, size)
    products: dict[str, Callable[[], object]] = {"sgemm_gflops": lambda: a @ b}
    if torch.backends.mkldnn.is_available():
        products["onednn_gflops"] = lambda: product(a, b)
    return {
        name: 2 * size**3 / min(seconds_of(function) for _ in range(repeats)) / 1e9
        for name, function in products.items()
    }
