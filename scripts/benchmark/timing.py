"""Seconds, and the machine's own rates."""

import time
from collections.abc import Callable

import torch

from experiments.kernels.matrices import product


def seconds_of(function: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds of one call, by the wall clock unless another is given."""
    start = clock()
    function()
    return clock() - start


def sgemm_rates(size: int = 1536, repeats: int = 12) -> dict[str, float]:
    """Return the best GFLOP/s over several products of square float32 matrices on all cores, by library.

    `sgemm_gflops` is torch's own `a @ b`; `harness_sgemm_gflops` is the harness's own.
    """
    a, b = torch.randn(size, size), torch.randn(size, size)
    products = {"sgemm_gflops": torch.matmul, "harness_sgemm_gflops": product}
    return {
        name: 2 * size**3 / min(seconds_of(lambda by=by: by(a[None], b[None])) for _ in range(repeats)) / 1e9
        for name, by in products.items()
    }
