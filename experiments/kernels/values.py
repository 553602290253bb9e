"""What a kernel computes with: integers, numbers of double precision, vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir

if TYPE_CHECKING:
    from experiments.kernels.code import Code

INT, FLOAT, DOUBLE = ir.IntType(64), ir.FloatType(), ir.DoubleType()


class Integer:
    """A 64-bit integer of the machine code."""

    def __init__(self, code: Code, value: ir.Value):
        self.code, self.value = code, value

    def _apply(self, operation: str, other: Integer | int, swap: bool = False) -> Integer:
        a, b = self.value, self.code.integer(other).value
        return Integer(self.code, getattr(self.code.builder, operation)(*((b, a) if swap else (a, b))))

    def __add__(self, other: Integer | int) -> Integer:
        return self._apply("add", other)

    def __sub__(self, other: Integer | int) -> Integer:
        return self._apply("sub", other)

    def __rsub__(self, other: int) -> Integer:
        return self._apply("sub", other, swap=True)

    def __mul__(self, other: Integer | int) -> Integer:
        return self._apply("mul", other)

    def __floordiv__(self, other: Integer | int) -> Integer:
        """Divide what is not negative."""
        return self._apply("sdiv", other)

    __radd__, __rmul__ = __add__, __mul__

    def real(self) -> Real:
        """Return it as a number of double precision."""
        return Real(self.code, self.code.builder.sitofp(self.value, DOUBLE))

    def at_most(self, other: Integer | int) -> Integer:
        """Return the smaller of the two."""
        return self._choose("<", other)

    def at_least(self, other: Integer | int) -> Integer:
        """Return the larger of the two."""
        return self._choose(">", other)

    def _choose(self, comparison: str, other: Integer | int) -> Integer:
        other = self.code.integer(other)
        smaller = self.code.builder.icmp_signed(comparison, self.value, other.value)
        return Integer(self.code, self.code.builder.select(smaller, self.value, other.value))


class Real:
    """One number of double precision."""

    def __init__(self, code: Code, value: ir.Value):
        self.code, self.value = code, value

    def _apply(self, operation: str, other: Real | float) -> Real:
        value = other.value if isinstance(other, Real) else ir.Constant(DOUBLE, float(other))
        return Real(self.code, getattr(self.code.builder, operation)(self.value, value))

    def __add__(self, other: Real | float) -> Real:
        return self._apply("fadd", other)

    def __sub__(self, other: Real | float) -> Real:
        return self._apply("fsub", other)

    def __mul__(self, other: Real | float) -> Real:
        return self._apply("fmul", other)

    def __truediv__(self, other: Real | float) -> Real:
        return self._apply("fdiv", other)

    def inverse(self) -> Real:
        """Return one divided by it."""
        return Real(self.code, self.code.builder.fdiv(ir.Constant(DOUBLE, 1.0), self.value))

    def root(self) -> Real:
        """Return the square root."""
        return Real(self.code, self.code.builder.call(self.code.square_root, [self.value]))


class Vector:
    """As many floating-point numbers as the processor handles at once, or as many of double precision."""

    def __init__(self, code: Code, value: Any):
        self.code, self.value = code, value

    def __add__(self, other: Vector) -> Vector:
        return Vector(self.code, self.code.builder.fadd(self.value, other.value))

    def __sub__(self, other: Vector) -> Vector:
        return Vector(self.code, self.code.builder.fsub(self.value, other.value))

    def times_plus(self, factor: Vector, added: Vector) -> Vector:
        """Return self * factor + added, rounded once where the processor has an instruction for it."""
        name = "wide_multiply_add" if self.value.type == self.code.wide else "multiply_add"
        call = getattr(self.code, name), [self.value, factor.value, added.value]
        return Vector(self.code, self.code.builder.call(*call))

    def widened(self) -> Vector:
        """Return it in double precision."""
        if self.code.vector == self.code.wide:
            return self
        return Vector(self.code, self.code.builder.fpext(self.value, self.code.wide))

    def where_positive(self, of: Vector) -> Vector:
        """Keep the lanes in which `of` is positive or nan; 0 in the others."""
        kept = self.code.builder.fcmp_unordered(">", of.value, self._zero())
        return Vector(self.code, self.code.builder.select(kept, self.value, self._zero()))

    def where_at_least(self, of: Vector, least: Vector) -> Vector:
        """Keep the lanes in which `of` is at least `least`; 0 in the others."""
        kept = self.code.builder.fcmp_ordered(">=", of.value, least.value)
        return Vector(self.code, self.code.builder.select(kept, self.value, self._zero()))

    def from_lane(self, first: Integer) -> Vector:
        """Keep the lanes from number `first` on; 0 in those before."""
        code, lanes = self.code, ir.VectorType(INT, self.code.lanes)
        numbers = ir.Constant(lanes, list(range(self.code.lanes)))
        kept = code.builder.icmp_signed(">=", numbers, code.splat(first.value, lanes))
        return Vector(code, code.builder.select(kept, self.value, self._zero()))

    def total(self) -> Real:
        """Return the sum over the lanes of a vector of double precision, halves first."""
        code, value, lanes = self.code, self.value, self.code.lanes
        while lanes > 1:
            lanes //= 2
            half = ir.VectorType(ir.IntType(32), lanes)
            starts = [ir.Constant(half, list(range(start, start + lanes))) for start in (0, lanes)]
            value = code.builder.fadd(*(code.builder.shuffle_vector(value, value, start) for start in starts))
        return Real(code, code.builder.extract_element(value, ir.IntType(32)(0)))

    def _zero(self) -> ir.Constant:
        return ir.Constant(self.value.type, [0.0] * self.code.lanes)


def transposed(rows: list[Vector]) -> list[Vector]:
    """Return the columns of a square of vectors, as many as each has lanes.

    Interleaving the first half of the rows with the second turns one bit of a number's place from its row's number
    to its lane's; after as many times as there are bits, all have changed places.
    """
    code, half = rows[0].code, len(rows) // 2
    for _ in range(len(rows).bit_length() - 1):
        rows = [
            row for pair in zip(rows[:half], rows[half:], strict=True) for row in _interleaved(code, *pair)
        ]
    return rows


def _interleaved(code: Code, a: Vector, b: Vector) -> list[Vector]:
    """Return a0 b0 a1 b1 ... as two vectors."""
    lanes = code.lanes
    order = [lane // 2 + lane % 2 * lanes for lane in range(2 * lanes)]
    kind = ir.VectorType(ir.IntType(32), lanes)
    return [
        Vector(code, code.builder.shuffle_vector(a.value, b.value, ir.Constant(kind, part)))
        for part in (order[:lanes], order[lanes:])
    ]
