"""Matrix products of all members at once.

The matrices of small networks are small: a library spends much of its time on laying them out, and starts anew
with each. And in training, weights come from memory: while a member's product is computed, the next member's are
fetched. GFLOP/s of the three products of a layer (forward, gradient of the input, gradient of the weight) on one
thread of an AMD EPYC (Zen 5), `python -m scripts.benchmark.kernels --batch 64`:

    width, members      16, 60          64, 60         256, 24         512, 8          1024, 4         2048, 1
    ours            120 130  79   233 233 197   237 245 225   244 243 234   224 165 235   221 116 241
    torch (MKL)      67  67  63    94  94  94    99  86  94    97  84  96    89  73  92    90  77  92

The gradient of the input reads weights against the order in which they lie, which at 2048 shows.

The columns fill the vectors. A tile of the product is summed in registers, of some rows and some vectors of
columns. Where rows or columns are no whole number of tiles, the last tile overlaps the one before.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.kernels.language import Code, Integer, Pointer, transposed
from experiments.kernels.machine import (
    NUMBERS,
    PRODUCTS,
    accumulators,
    compiled,
    has_kernels,
    largest_vector,
    over_threads,
)
from experiments.kernels.tiles import Sums, tile_vectors


def multiply(
    code: Code,
    a: Pointer,  # [members, rows, inner]
    b: Pointer,  # [members, inner, columns], or in panels
    y: Pointer,  # [members, rows, columns]
    a_member: Integer,
    a_row: Integer,
    a_inner: Integer,
    b_member: Integer,
    b_inner: Integer,
    b_panel: Integer,
    rows: Integer,
    inner: Integer,
    columns: Integer,
    blocks: Integer,
    start: Integer,
    stop: Integer,
    *,
    tile_rows: int,
    vectors: int,
) -> None:
    """y = a b, for the blocks [start, stop) of `tile_rows` rows; each member has `blocks` of them.

    From one member, row or inner number of a to the next there are `a_member`, `a_row`, `a_inner` numbers; of
    b `b_member`, `b_inner`. The neighbours of a tile's columns of b are neighbours in memory. From one tile
    to the next there are as many as there are columns between them, or, where it is not 0, `b_panel`.
    """
    size = vectors * code.lanes
    sums = Sums(code, tile_rows, vectors)
    with code.loop(start, stop) as number, code.loop(0, columns, size) as left:
        member, column = number // blocks, left.at_most(columns - size)
        row = ((number - member * blocks) * tile_rows).at_most(rows - tile_rows)
        factors = a.at(member * a_member + row * a_row)
        # 0 where b lies in panels, else 1.
        in_place = 1 - b_panel.at_most(1)
        values = b.at(member * b_member + left // size * b_panel + column * in_place)
        # Weights come from memory, and perhaps against the order in which they lie there.
        next_a = a.at((member + 1) * a_member + row * inner)
        sums.clear()
        sums.add_products(factors, a_row, a_inner, values, b_inner, inner, next_a)
        sums.store(y.at((member * rows + row) * columns + column), columns)


def product(a: Tensor, b: Tensor) -> Tensor:
    """a [members, n, k] @ b [members, k, m] -> [members, n, m], contiguous; for use where autograd does not look.

    Each of the two, or its transpose, should be contiguous. A `b` that all members share may be one matrix
    expanded over them.
    """
    if not has_kernels(a):
        return torch.matmul(a, b)
    (members, rows, inner), columns = a.shape, b.shape[2]
    tile = _tile(rows, columns, a.dtype)
    if b.stride(2) == 1 or b.stride(1) != 1:
        b = b if b.stride(2) == 1 else b.contiguous()
        b_inner, b_panel = b.stride(1), 0
    else:
        b = in_panels(b, tile.columns)
        b_inner, b_panel = tile.columns, inner * tile.columns
    y = torch.empty(members, rows, columns, dtype=a.dtype)
    a_member, a_row, a_inner = a.stride()
    work = tile.multiply(
        a=a,
        b=b,
        y=y,
        a_member=a_member,
        a_row=a_row,
        a_inner=a_inner,
        b_member=b.stride(0),
        b_inner=b_inner,
        b_panel=b_panel,
        rows=rows,
        inner=inner,
        columns=columns,
        blocks=tile.blocks,
    )
    over_threads(members * tile.blocks, work, rows / tile.blocks * inner * columns / PRODUCTS)
    return y


class _Tile(NamedTuple):
    """What is summed in registers at a time; `blocks` tiles hold all rows, the last perhaps some once more."""

    columns: int
    blocks: int
    multiply: Callable[..., Callable[[int, int], None]]


@functools.cache
def _tile(rows: int, columns: int, dtype: torch.dtype) -> _Tile:
    vector = largest_vector(columns, dtype)
    vectors = tile_vectors(columns, vector)
    tile_rows = min(rows, accumulators() // vectors)
    kernel = compiled(multiply, dtype, vector, tile_rows=tile_rows, vectors=vectors)
    return _Tile(vector * vectors, -(-rows // tile_rows), kernel)


def transpose(
    code: Code,
    x: Pointer,  # [members, columns, inner]
    y: Pointer,  # [members, panels, inner, columns of a panel]
    x_member: Integer,
    x_column: Integer,
    inner: Integer,
    columns: Integer,
    panels: Integer,
    start: Integer,
    stop: Integer,
    *,
    vectors: int,
) -> None:
    """Lay out x for `multiply`, of all panels of all members those in [start, stop).

    From one member of x to the next there are `x_member` numbers, from one column to the next `x_column`.
    """
    size = vectors * code.lanes
    with code.loop(start, stop) as number, code.loop(0, inner, code.lanes) as left:
        member, k = number // panels, left.at_most(inner - code.lanes)
        column = ((number - member * panels) * size).at_most(columns - size)
        source, target = x.at(member * x_member + column * x_column + k), y.at((number * inner + k) * size)
        with code.loop(0, size, code.lanes) as first:
            lines = [source.load((first + lane) * x_column) for lane in range(code.lanes)]
            for lane, line in enumerate(transposed(lines)):
                target.store(lane * size + first, line)


def in_panels(b: Tensor, size: int) -> Tensor:
    """Lay out b [members, k, m], whose columns lie in order, as [members, panels, k, columns of a panel].

    A panel has `size` columns. Where they are no whole number of panels, the last has some of those before
    once more.
    """
    if len(b) > 1 and b.stride(0) == 0:
        return in_panels(b[:1], size).expand(len(b), -1, -1, -1)
    members, inner, columns = b.shape
    panels = -(-columns // size)
    y = torch.empty(members, panels, inner, size, dtype=b.dtype)
    vector = min(largest_vector(inner, b.dtype), size & -size)
    kernel = compiled(transpose, b.dtype, vector, vectors=size // vector)
    x_member, _, x_column = b.stride()
    work = kernel(x=b, y=y, x_member=x_member, x_column=x_column, inner=inner, columns=columns, panels=panels)
    over_threads(members * panels, work, inner * size / NUMBERS)
    return y
