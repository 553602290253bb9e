"""Where a kernel reads and writes: numbers in memory, and registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llvmlite import ir

from experiments.kernels.values import DOUBLE, Integer, Real, Vector

if TYPE_CHECKING:
    from experiments.kernels.code import Code


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
        read, all_but_the_first, data = i32(0), i32(2), i32(1)  # what for, into which caches, which of them
        code.builder.call(code.prefetch, [address, read, all_but_the_first, data])

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
