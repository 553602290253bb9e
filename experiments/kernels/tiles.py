"""Tiles: what a kernel sums in registers at a time, and how sizes are cut into such pieces."""

import functools

from experiments.kernels.language import Code, Integer, Pointer, Register
from experiments.kernels.machine import accumulators

# Begin, end and size of tiles of one size.
Tile = tuple[int, int, int]


class Sums:
    """A tile of sums: rows of some vectors each. In memory, from one row to the next there are `row` numbers."""

    def __init__(self, code: Code, rows: int, vectors: int):
        self.code, self.rows, self.vectors = code, range(rows), range(vectors)
        self.registers = [[Register(code) for _ in self.vectors] for _ in self.rows]

    def clear(self) -> None:
        """Have them be zeros."""
        for registers in self.registers:
            for register in registers:
                register.clear()

    def load(self, place: Pointer, row: Integer | int) -> None:
        """Have them be the numbers at a place."""
        for r, v, register in self._places():
            register.set(place.load(r * row + v))

    def add(self, place: Pointer, row: Integer | int) -> None:
        """Add the numbers at a place to them."""
        for r, v, register in self._places():
            register.set(register.get() + place.load(r * row + v))

    def store(self, place: Pointer, row: Integer | int) -> None:
        """Write them to a place."""
        for r, v, register in self._places():
            place.store(r * row + v, register.get())

    def add_to(self, place: Pointer, row: Integer | int) -> None:
        """Add them to the numbers at a place."""
        for r, v, register in self._places():
            place.store(r * row + v, place.load(r * row + v) + register.get())

    def add_products(
        self,
        a: Pointer,
        a_row: Integer | int,
        a_inner: Integer | int,
        b: Pointer,
        b_inner: Integer | int,
        inner: Integer,
        next_a: Pointer | None = None,
    ) -> None:
        """Add to each row r the sum over k in range(inner) of a[r, k] b[k].

        From one number of a to the next there are `a_row` and `a_inner`, from one row of b to the next `b_inner`.
        The numbers at `next_a`, as many as are read of a, are fetched on the way.
        """
        with self.code.loop(0, inner) as k:
            if next_a is not None:
                next_a.prefetch(k * len(self.rows))
            values = [b.load(k * b_inner + v * self.code.lanes) for v in self.vectors]
            for r, registers in enumerate(self.registers):
                factor = a.broadcast(k * a_inner + r * a_row)
                for value, register in zip(values, registers, strict=True):
                    register.set(value.times_plus(factor, register.get()))

    def _places(self) -> list[tuple[int, int, Register]]:
        lanes = self.code.lanes
        return [(r, v * lanes, self.registers[r][v]) for r in self.rows for v in self.vectors]


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

    Returns begin, end and size of the tiles of each size.
    """
    # Somewhat smaller tiles are better than two calls of a kernel.
    for tile in range(most, -(-2 * most // 3) - 1, -1):
        if count % tile == 0:
            return [(0, count, tile)]
    size, larger = divmod(count, -(-count // most))
    middle = larger * (size + 1)
    return [tile for tile in ((0, middle, size + 1), (middle, count, size)) if tile[0] < tile[1]]
