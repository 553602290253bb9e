"""What a kernel computes with: integers, numbers of double precision, vectors, pointers, registers."""

from __future__ import annotations

from collections.abc import Callable
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


class Pointer:
    """Numbers in memory, by their index. What a kernel writes by one pointer it reads by no other."""

    def __init__(self, code: Code, value: Any):
        self.code, self.value = code, value

    def at(self, index: Integer | int) -> Pointer:
        """Return a pointer to the number at `index`."""
        return Pointer(self.code, self._address(index))

    def if_within(self, index: Integer, stop: Integer, other: Pointer) -> Pointer:
        """Return this pointer where 0 <= index < stop, else the other."""
        builder, zero = self.code.builder, self.code.integer(0).value
        above, below = (
            builder.icmp_signed(">=", index.value, zero),
            builder.icmp_signed("<", index.value, stop.value),
        )
        return Pointer(self.code, builder.select(builder.and_(above, below), self.value, other.value))

    def load(self, index: Integer | int) -> Vector:
        """Read neighbouring numbers, the first at `index`."""
        address = self.code.builder.bitcast(self._address(index), ir.PointerType(self.code.vector))
        return Vector(
            self.code, self.code.builder.load(address, align=self.code.alignment, typ=self.code.vector)
        )

    def broadcast(self, index: Integer | int) -> Vector:
        """Read one number into every lane."""
        return Vector(
            self.code, self.code.splat(self.code.builder.load(self._address(index)), self.code.vector)
        )

    def store(self, index: Integer | int, vector: Vector) -> None:
        """Write neighbouring numbers, the first at `index`."""
        address = self.code.builder.bitcast(self._address(index), ir.PointerType(self.code.vector))
        self.code.builder.store(vector.value, address, align=self.code.alignment)

    def prefetch(self, index: Integer | int) -> None:
        """Have the caches get what will be read at `index`, which may be no memory at all."""
        code, i32 = self.code, ir.IntType(32)
        address = code.builder.bitcast(self._address(index), ir.PointerType(ir.IntType(8)))
        code.builder.call(
            code.prefetch, [address, i32(0), i32(2), i32(1)]
        )  # a read, not into the first cache

    def number(self, index: Integer | int) -> Real:
        """Read one number."""
        value = self.code.builder.load(self._address(index))
        return Real(self.code, value if value.type == DOUBLE else self.code.builder.fpext(value, DOUBLE))

    def put(self, index: Integer | int, number: Real) -> None:
        """Write one number, rounded."""
        address, value = self._address(index), number.value
        if address.type.pointee != DOUBLE:
            value = self.code.builder.fptrunc(value, address.type.pointee)
        self.code.builder.store(value, address)

    def _address(self, index: Integer | int) -> Any:
        return self.code.builder.gep(self.value, [self.code.integer(index).value])


class DoublePointer(Pointer):
    """As a Pointer, to numbers of double precision."""


class IntegerPointer(Pointer):
    """64-bit integers in memory, by their index."""

    def integer(self, index: Integer | int) -> Integer:
        """Read one."""
        return Integer(self.code, self.code.builder.load(self._address(index)))


class Register:
    """A vector that changes; `wide`: of double precision."""

    def __init__(self, code: Code, wide: bool = False):
        self.code = code
        with code.builder.goto_entry_block():  # LLVM makes a register of what is set aside there
            self.place = code.builder.alloca(code.wide if wide else code.vector)

    def get(self) -> Vector:
        """Return what it holds now."""
        return Vector(self.code, self.code.builder.load(self.place))

    def set(self, vector: Vector) -> None:
        """Have it hold another vector."""
        self.code.builder.store(vector.value, self.place)

    def clear(self) -> None:
        """Have it hold zeros."""
        self.code.builder.store(ir.Constant(self.place.type.pointee, None), self.place)


def vector_at(batch: Integer, number: Integer, ragged: int) -> tuple[Integer, Callable[[Vector], Vector]]:
    """Return where to read the vector of sample `number` on, and what takes out those that were counted before."""
    if not ragged:
        return number, lambda vector: vector
    sample = number.at_most(batch - number.code.lanes)
    return sample, lambda vector: vector.from_lane(number - sample)


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
