"""Tiles: what a kernel sums in registers at a time."""

import functools

from experiments.kernels.machine import accumulators

Tile = tuple[int, int, int]  # begin, end and size of tiles of one size


@functools.cache
def tile_vectors(columns: int, vector: int, saving: float = 0.1) -> int:
    """Return of how many vectors a tile of sums is that is 6 rows high or higher, on so many columns.

    The last tile overlaps the one before, and so is computed in part in vain; what is read for each tile costs
    about half a vector more. As many as possible, unless others save such a share: each is a kernel to compile.
    """
    most = min(accumulators() // 6, columns // vector)
    costs = {v: -(-columns // (v * vector)) * (v + 0.5) for v in range(1, most + 1)}
    best = min(costs, key=lambda v: costs[v])
    return best if costs[best] < (1 - saving) * costs[most] else most


@functools.cache
def even_tiles(count: int, most: int) -> list[Tile]:
    """Cut range(count) into tiles of one size or two neighbouring ones, at most `most`.

    Returned are begin, end and size of the tiles of each size.
    """
    for tile in range(most, -(-2 * most // 3) - 1, -1):
        if count % tile == 0:  # somewhat smaller tiles are better than two calls of a kernel
            return [(0, count, tile)]
    size, larger = divmod(count, -(-count // most))
    middle = larger * (size + 1)
    return [tile for tile in ((0, middle, size + 1), (middle, count, size)) if tile[0] < tile[1]]
