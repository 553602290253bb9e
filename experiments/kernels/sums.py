"""A tile of sums of products, held in registers."""

from experiments.kernels.code import Code
from experiments.kernels.storage import Pointer, Register
from experiments.kernels.values import Integer


class Sums:
    """Rows of some vectors each. In memory, from one row to the next there are `row` numbers."""

    def __init__(self, code: Code, rows: int, vectors: int):
        self.code, self.rows, self.vectors = code, range(rows), range(vectors)
        self.registers = [[Register(code) for _ in self.vectors] for _ in self.rows]

    def clear(self) -> None:
        """Have them be zeros."""
        for registers in self.registers:
            for register in registers:
                register.clear()

    def load(self, place: Pointer, row: Integer | int) -> None:
        """Have them be what lies at a place."""
        for r, v, register in self._places():
            register.set(place.load(r * row + v))

    def store(self, place: Pointer, row: Integer | int) -> None:
        """Write them to a place."""
        for r, v, register in self._places():
            place.store(r * row + v, register.get())

    def add_to(self, place: Pointer, row: Integer | int) -> None:
        """Add them to what lies at a place."""
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
        later: Pointer | None = None,
    ) -> None:
        """Add to each row r the sum over k in range(inner) of a[r, k] b[k].

        From one number of a to the next there are `a_row` and `a_inner`, from one row of b to the next `b_inner`.
        What begins at `later`, as much as is read of a, is fetched on the way.
        """
        with self.code.loop(0, inner) as k:
            if later is not None:
                later.prefetch(k * len(self.rows))
            seen = [b.load(k * b_inner + v * self.code.lanes) for v in self.vectors]
            for r, registers in enumerate(self.registers):
                factor = a.broadcast(k * a_inner + r * a_row)
                for value, register in zip(seen, registers, strict=True):
                    register.set(value.times_plus(factor, register.get()))

    def _places(self) -> list[tuple[int, int, Register]]:
        lanes = self.code.lanes
        return [(r, v * lanes, self.registers[r][v]) for r in self.rows for v in self.vectors]
