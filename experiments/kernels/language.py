"""A small language for loops over vectors of numbers, whose words are LLVM's.

A kernel is a Python function that runs once, on symbols, and leaves behind the machine code of what it did to
them. Its first parameter is the `Code` that it writes to. Further positional ones are arguments of the
machine code: `Pointer` to numbers in memory, `Integer` or `Real`; the last two are `start` and `stop`, the
part of the work that a call does. Keyword-only ones are constants, known when the kernel is compiled:

    def add_shifted(code, x: Pointer, y: Pointer, start: Integer, stop: Integer, *, by: int):
        with code.loop(start, stop, code.lanes) as i:
            y.store(i, x.load(i) + x.load(i + by))

`experiments.kernels.machine.compiled` makes a function of it. The words:

    Integer, Real     one 64-bit integer, one number of double precision
    Vector            as many numbers as the processor handles at once
    Pointer           numbers in memory
    Register          a vector that changes
    Code              what is written so far; loops and constants

LLVM itself is not imported here: `Code` is given it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class Integer:
    """A 64-bit integer of the machine code."""

    def __init__(self, code: Code, value: Any):
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
        return Real(self.code, self.code.builder.sitofp(self.value, self.code.double))

    def at_most(self, other: Integer | int) -> Integer:
        """Return the smaller of the two."""
        return self._choose("<", other)

    def at_least(self, other: Integer | int) -> Integer:
        """Return the larger of the two."""
        return self._choose(">", other)

    def _choose(self, comparison: str, other: Integer | int) -> Integer:
        other = self.code.integer(other)
        this = self.code.builder.icmp_signed(comparison, self.value, other.value)
        return Integer(self.code, self.code.builder.select(this, self.value, other.value))


class Real:
    """One number of double precision."""

    def __init__(self, code: Code, value: Any):
        self.code, self.value = code, value

    def _apply(self, operation: str, other: Real | float) -> Real:
        value = other.value if isinstance(other, Real) else self.code.constant(self.code.double, float(other))
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
        return Real(self.code, self.code.builder.fdiv(self.code.constant(self.code.double, 1.0), self.value))

    def root(self) -> Real:
        """Return the square root."""
        return Real(self.code, self.code.builder.call(self.code.square_root, [self.value]))


class Vector:
    """As many numbers as the processor handles at once: of the kernel's precision, or of double precision."""

    def __init__(self, code: Code, value: Any):
        self.code, self.value = code, value

    def __add__(self, other: Vector) -> Vector:
        return Vector(self.code, self.code.builder.fadd(self.value, other.value))

    def __sub__(self, other: Vector) -> Vector:
        return Vector(self.code, self.code.builder.fsub(self.value, other.value))

    def __mul__(self, other: Vector) -> Vector:
        return Vector(self.code, self.code.builder.fmul(self.value, other.value))

    def times_plus(self, factor: Vector, summand: Vector) -> Vector:
        """Return self * factor + summand, rounded once where the processor has an instruction for it."""
        name = "wide_multiply_add" if self.value.type == self.code.wide else "multiply_add"
        call = getattr(self.code, name), [self.value, factor.value, summand.value]
        return Vector(self.code, self.code.builder.call(*call))

    def widened(self) -> Vector:
        """Return it in double precision."""
        if self.code.vector == self.code.wide:
            return self
        return Vector(self.code, self.code.builder.fpext(self.value, self.code.wide))

    def where_positive(self, of: Vector) -> Vector:
        """Keep the lanes in which `of` is positive or nan; 0 in the others."""
        return self._where(self.code.builder.fcmp_unordered(">", of.value, self._zero()))

    def where_at_least(self, of: Vector, least: Vector) -> Vector:
        """Keep the lanes in which `of` is at least `least`; 0 in the others."""
        return self._where(self.code.builder.fcmp_ordered(">=", of.value, least.value))

    def from_lane(self, first: Integer) -> Vector:
        """Keep the lanes from number `first` on; 0 in those before."""
        code, kind = self.code, self.code.lanes_of(self.code.i64)
        numbers = code.constant(kind, list(range(code.lanes)))
        return self._where(code.builder.icmp_signed(">=", numbers, code.splat(first.value, kind)))

    def total(self) -> Real:
        """Return the sum over the lanes of a vector of double precision, halves first."""
        code, value, lanes = self.code, self.value, self.code.lanes
        while lanes > 1:
            lanes //= 2
            kind = code.lanes_of(code.i32, lanes)
            halves = [code.constant(kind, list(range(start, start + lanes))) for start in (0, lanes)]
            value = code.builder.fadd(*(code.builder.shuffle_vector(value, value, half) for half in halves))
        return Real(code, code.builder.extract_element(value, code.i32(0)))

    def _where(self, mask: Any) -> Vector:
        return Vector(self.code, self.code.builder.select(mask, self.value, self._zero()))

    def _zero(self) -> Any:
        return self.code.constant(self.value.type, [0.0] * self.code.lanes)


def transposed(rows: list[Vector]) -> list[Vector]:
    """Return the columns of a square of vectors, as many as each has lanes.

    Interleaving the first half of the rows with the second turns one bit of a number's place from its row's number
    to its lane's; after as many times as there are bits, all have changed places.
    """
    code, half = rows[0].code, len(rows) // 2
    for _ in range(len(rows).bit_length() - 1):
        pairs = zip(rows[:half], rows[half:], strict=True)
        rows = [row for pair in pairs for row in _interleave(code, *pair)]
    return rows


def _interleave(code: Code, a: Vector, b: Vector) -> list[Vector]:
    """Return a0 b0 a1 b1 ... as two vectors."""
    lanes = code.lanes
    order = [lane // 2 + lane % 2 * lanes for lane in range(2 * lanes)]
    kind = code.lanes_of(code.i32)
    return [
        Vector(code, code.builder.shuffle_vector(a.value, b.value, code.constant(kind, part)))
        for part in (order[:lanes], order[lanes:])
    ]


class Pointer:
    """Numbers in memory, by their index. A kernel that writes numbers by one pointer reads them by no other."""

    def __init__(self, code: Code, value: Any):
        self.code, self.value = code, value

    def at(self, index: Integer | int) -> Pointer:
        """Return a pointer to the number at `index`."""
        return Pointer(self.code, self._address(index))

    def if_within(self, index: Integer, stop: Integer, other: Pointer) -> Pointer:
        """Return this pointer where 0 <= index < stop, else the other."""
        builder, zero = self.code.builder, self.code.integer(0).value
        above = builder.icmp_signed(">=", index.value, zero)
        below = builder.icmp_signed("<", index.value, stop.value)
        return Pointer(self.code, builder.select(builder.and_(above, below), self.value, other.value))

    def load(self, index: Integer | int) -> Vector:
        """Read neighbouring numbers, the first at `index`."""
        code, address = self.code, self._vector_address(index)
        return Vector(code, code.builder.load(address, align=code.alignment, typ=address.type.pointee))

    def broadcast(self, index: Integer | int) -> Vector:
        """Read one number into every lane."""
        code = self.code
        return Vector(code, code.splat(code.builder.load(self._address(index)), code.vector))

    def store(self, index: Integer | int, vector: Vector) -> None:
        """Write neighbouring numbers, the first at `index`."""
        self.code.builder.store(vector.value, self._vector_address(index), align=self.code.alignment)

    def prefetch(self, index: Integer | int) -> None:
        """Have the caches get the numbers at `index`, which may be no memory at all."""
        code = self.code
        address = code.builder.bitcast(self._address(index), code.pointer_to(code.i8))
        # LLVM's arguments: what for, into which caches, and which of them (data, not instructions).
        read, all_but_the_first, data = code.i32(0), code.i32(2), code.i32(1)
        code.builder.call(code.prefetch, [address, read, all_but_the_first, data])

    def number(self, index: Integer | int) -> Real:
        """Read one number."""
        code, value = self.code, self.code.builder.load(self._address(index))
        return Real(code, value if value.type == code.double else code.builder.fpext(value, code.double))

    def put(self, index: Integer | int, number: Real) -> None:
        """Write one number, rounded."""
        address, value = self._address(index), number.value
        if address.type.pointee != self.code.double:
            value = self.code.builder.fptrunc(value, address.type.pointee)
        self.code.builder.store(value, address)

    def _address(self, index: Integer | int) -> Any:
        return self.code.builder.gep(self.value, [self.code.integer(index).value])

    def _vector_address(self, index: Integer | int) -> Any:
        return self.code.builder.bitcast(self._address(index), self.code.pointer_to(self.code.vector))


class DoublePointer(Pointer):
    """As a Pointer, to numbers of double precision."""

    def _vector_address(self, index: Integer | int) -> Any:
        return self.code.builder.bitcast(self._address(index), self.code.pointer_to(self.code.wide))


class IntegerPointer(Pointer):
    """64-bit integers in memory, by their index."""

    def integer(self, index: Integer | int) -> Integer:
        """Read one."""
        return Integer(self.code, self.code.builder.load(self._address(index)))


class Register:
    """A vector that changes; `wide`: of double precision."""

    def __init__(self, code: Code, wide: bool = False):
        self.code = code
        # LLVM makes a register of a place that the function sets aside at its beginning.
        with code.builder.goto_entry_block():
            self.place = code.builder.alloca(code.wide if wide else code.vector)

    def get(self) -> Vector:
        """Return what it holds now."""
        return Vector(self.code, self.code.builder.load(self.place))

    def set(self, vector: Vector) -> None:
        """Have it hold another vector."""
        self.code.builder.store(vector.value, self.place)

    def clear(self) -> None:
        """Have it hold zeros."""
        self.code.builder.store(self.code.constant(self.place.type.pointee, None), self.place)


def vector_at(batch: Integer, number: Integer, ragged: int) -> tuple[Integer, Callable[[Vector], Vector]]:
    """Return where the vector that begins with sample `number` is read, and its mask.

    A `ragged` batch is no whole number of vectors. Its last vector, the tail, then begins earlier and overlaps the
    one before; the mask puts 0 into the lanes that both have.
    """
    if not ragged:
        return number, lambda vector: vector
    sample = number.at_most(batch - number.code.lanes)
    return sample, lambda vector: vector.from_lane(number - sample)


class Code:
    """The machine code of a kernel while it is written.

    `ir` is llvmlite's module of that name; `kinds` are the kinds of the kernel's arguments; vectors have so many
    `lanes`, of numbers of 32 or 64 `bits`.

    The kernel's function takes its arguments as they are. Callers see `entry`, which takes all but the last two,
    `start` and `stop`, from memory, where they follow one another in 8 bytes each: a call from Python converts
    three arguments, not twenty.
    """

    def __init__(self, ir: Any, name: str, kinds: Sequence[type], lanes: int, bits: int):
        self.lanes, self.alignment = lanes, bits // 8
        self.constant, self.pointer_to = ir.Constant, ir.PointerType
        self.lanes_of = lambda number, count=lanes: ir.VectorType(number, count)
        self.i8, self.i32, self.i64, self.double = (
            ir.IntType(8),
            ir.IntType(32),
            ir.IntType(64),
            ir.DoubleType(),
        )
        self.undefined, void = ir.Undefined, ir.VoidType()
        number = {32: ir.FloatType(), 64: self.double}[bits]
        self.vector, self.wide = self.lanes_of(number), self.lanes_of(self.double)

        self.module = ir.Module(name)
        places = {Pointer: number, DoublePointer: self.double, IntegerPointer: self.i64}
        types = {kind: ir.PointerType(place) for kind, place in places.items()}
        types |= {Integer: self.i64, Real: self.double}
        signature = [types[kind] for kind in kinds]
        self.function = ir.Function(self.module, ir.FunctionType(void, signature), name)
        self.function.attributes.add("noinline")
        for argument in self.function.args:
            if isinstance(argument.type, ir.PointerType):
                argument.add_attribute("noalias")
        self.builder: Any = ir.IRBuilder(self.function.append_basic_block())
        self.arguments = [kind(self, value) for kind, value in zip(kinds, self.function.args, strict=True)]

        def declare(name: str, result: Any, arguments: list[Any]) -> Any:
            known = self.module.globals.get(name)
            return known or ir.Function(self.module, ir.FunctionType(result, arguments), name)

        self.multiply_add = declare(f"llvm.fmuladd.v{lanes}f{bits}", self.vector, [self.vector] * 3)
        self.wide_multiply_add = declare(f"llvm.fmuladd.v{lanes}f64", self.wide, [self.wide] * 3)
        self.square_root = declare("llvm.sqrt.f64", self.double, [self.double])
        self.prefetch = declare("llvm.prefetch.p0i8", void, [ir.PointerType(self.i8), *[self.i32] * 3])

        place = ir.PointerType(self.i64)
        kind = ir.FunctionType(void, [place, self.i64, self.i64])
        self.entry = ir.Function(self.module, kind, f"{name}.entry")
        memory, *part = self.entry.args
        builder: Any = ir.IRBuilder(self.entry.append_basic_block())
        values = []
        for index, type_ in enumerate(signature[:-2]):
            address = builder.gep(memory, [ir.Constant(self.i64, index)])
            values.append(builder.load(builder.bitcast(address, ir.PointerType(type_))))
        builder.call(self.function, [*values, *part])
        builder.ret_void()

    def integer(self, value: Integer | int) -> Integer:
        """Return a number as one of the machine code's."""
        return Integer(self, self.constant(self.i64, value)) if isinstance(value, int) else value

    def splat(self, value: Any, vector: Any) -> Any:
        """Return one number in every lane of a vector of this LLVM type."""
        blank = self.constant(vector, self.undefined)
        first = self.builder.insert_element(blank, value, self.i32(0))
        return self.builder.shuffle_vector(first, blank, self.lanes_of(self.i32)([0] * self.lanes))

    def call(self, address: Integer, arguments: Integer, start: Integer, stop: Integer) -> None:
        """Do the part [start, stop) of another kernel's work; its entry and arguments lie at these addresses."""
        kind = self.entry.function_type
        entry = self.builder.inttoptr(address.value, kind.as_pointer())
        memory = self.builder.inttoptr(arguments.value, kind.args[0])
        self.builder.call(entry, [memory, start.value, stop.value])

    @contextmanager
    def loop(self, start: Integer | int, stop: Integer | int, step: int | Integer = 1) -> Iterator[Integer]:
        """Write the body of `for i in range(start, stop, step)`; the step is positive."""
        builder, start, stop = self.builder, self.integer(start), self.integer(stop)
        before = builder.block
        head, body, end = (builder.append_basic_block() for _ in range(3))
        builder.branch(head)
        builder.position_at_end(head)
        number = builder.phi(self.i64)
        number.add_incoming(start.value, before)
        builder.cbranch(builder.icmp_signed("<", number, stop.value), body, end)
        builder.position_at_end(body)
        yield Integer(self, number)
        number.add_incoming((Integer(self, number) + step).value, builder.block)
        builder.branch(head)
        builder.position_at_end(end)
