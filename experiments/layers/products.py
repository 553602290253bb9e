"""Matrix products of all members at once.

On a CPU they are our own kernels. The matrices of small networks are small: a library spends much of its time on
laying them out, and starts anew with each. And in training, weights come from memory: while a member's product is
computed, the next member's are fetched. GFLOP/s of the three products of a layer (forward, gradient of the input,
gradient of the weight) on one thread of an AMD EPYC (Zen 5), `python -m scripts.benchmark.kernels --batch 64`:

    width, members      16, 60          64, 60         256, 24         512, 8          1024, 4         2048, 1
    ours            120 130  79   233 233 197   237 245 225   244 243 234   224 165 235   221 116 241
    torch (MKL)      67  67  63    94  94  94    99  86  94    97  84  96    89  73  92    90  77  92

The gradient of the input reads weights against the order in which they lie, which at 2048 shows.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.kernels.machine import (
    NUMBERS,
    PRODUCTS,
    accumulators,
    compiled,
    largest_vector,
    over_threads,
)
from experiments.kernels.tiles import tile_vectors


def product(a: Tensor, b: Tensor) -> Tensor:
    """a [members, n, k] @ b [members, k, m] -> [members, n, m], contiguous; for use where autograd does not look.

    Each of the two, or its transpose, should be contiguous. A `b` that all members share may be one matrix
    expanded over them.
    """
    if a.device.type != "cpu" or a.dtype not in (torch.float32, torch.float64):
        return torch.matmul(a, b)
    (members, rows, inner), columns = a.shape, b.shape[2]
    tile = _tile(rows, columns, a.dtype)
    if b.stride(2) == 1 or b.stride(1) != 1:
        b = b if b.stride(2) == 1 else b.contiguous()
        b_inner, b_panels = b.stride(1), 0
    else:
        b = in_panels(b, tile.columns)
        b_inner, b_panels = tile.columns, inner * tile.columns
    y = torch.empty(members, rows, columns, dtype=a.dtype)
    sizes = *a.stride(), b.stride(0), b_inner, b_panels, rows, inner, columns, tile.blocks
    work = functools.partial(tile.multiply, a, b, y, *sizes)
    over_threads(members * tile.blocks, work, rows / tile.blocks * inner * columns / PRODUCTS)
    return y


class _Tile(NamedTuple):
    """What is summed in registers at a time; `blocks` tiles hold all rows, the last perhaps some once more."""

    columns: int
    blocks: int
    multiply: Callable[..., None]


@functools.cache
def _tile(rows: int, columns: int, dtype: torch.dtype) -> _Tile:
    from experiments.kernels import matrices  # which imports LLVM

    vector = largest_vector(columns, dtype)
    vectors = tile_vectors(columns, vector)
    tile_rows = min(rows, accumulators() // vectors)
    kernel = compiled(matrices.multiply, dtype, vector, tile_rows=tile_rows, vectors=vectors)
    return _Tile(vector * vectors, -(-rows // tile_rows), kernel)


def in_panels(b: Tensor, size: int) -> Tensor:
    """Lay out b [members, k, m], whose columns lie in order, as [members, panels, k, columns of a panel].

    Where the columns are no whole number of panels, the last has some of those before once more.
    """
    from experiments.kernels import matrices

    if len(b) > 1 and b.stride(0) == 0:
        return in_panels(b[:1], size).expand(len(b), -1, -1, -1)
    members, inner, columns = b.shape
    panels = -(-columns // size)
    y = torch.empty(members, panels, inner, size, dtype=b.dtype)
    vector = min(largest_vector(inner, b.dtype), size & -size)
    kernel = compiled(matrices.transpose, b.dtype, vector, vectors=size // vector)
    sizes = b.stride(0), b.stride(2), inner, columns, panels
    over_threads(members * panels, functools.partial(kernel, b, y, *sizes), inner * size / NUMBERS)
    return y
