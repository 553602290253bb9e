"""A small language for loops over vectors of numbers, whose words are LLVM's.

A kernel is a Python function that is run once, on symbols, and leaves behind the machine code of what it did to
them. Its first parameter is the `Code` that it writes to; further positional ones are arguments of the machine
code, `Pointer` to floating-point numbers, `Integer` or `Real`; keyword-only ones are known when it is compiled:

    def add_shifted(code, x: Pointer, y: Pointer, count: Integer, *, by: int):
        with code.loop(0, count, code.lanes) as i:
            y.store(i, x.load(i) + x.load(i + by))

`experiments.kernels.machine.compiled` makes a function of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from experiments.kernels.storage import DoublePointer, IntegerPointer, Pointer, Register
from experiments.kernels.values import DOUBLE, FLOAT, INT, Integer, Real


class Code:
    """Machine code in the making: a function of arguments of these kinds, on vectors of so many lanes.

    Numbers have 32 or 64 `bits`.
    """

    def __init__(self, name: str, kinds: Sequence[type], lanes: int, bits: int):
        number = {32: FLOAT, 64: DOUBLE}[bits]
        self.lanes, self.alignment = lanes, bits // 8
        self.vector, self.wide = ir.VectorType(number, lanes), ir.VectorType(DOUBLE, lanes)
        self.module = ir.Module(name)
        types = {Pointer: number, DoublePointer: DOUBLE, IntegerPointer: INT}
        types = {kind: ir.PointerType(of) for kind, of in types.items()} | {Integer: INT, Real: DOUBLE}
        arguments = [types[kind] for kind in kinds]
        self.function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), arguments), name)
        for argument in self.function.args:
            if argument.type not in (INT, DOUBLE):
                argument.add_attribute("noalias")
        self.builder: Any = ir.IRBuilder(self.function.append_basic_block())
        self.multiply_add = self._intrinsic(f"llvm.fmuladd.v{lanes}f{bits}", self.vector, 3)
        self.wide_multiply_add = self._intrinsic(f"llvm.fmuladd.v{lanes}f64", self.wide, 3)
        self.square_root = self._intrinsic("llvm.sqrt.f64", DOUBLE, 1)
        i32 = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [ir.PointerType(ir.IntType(8)), i32, i32, i32])
        self.prefetch = ir.Function(self.module, kind, "llvm.prefetch.p0i8")
        self.arguments = [kind(self, value) for kind, value in zip(kinds, self.function.args, strict=True)]

    def _intrinsic(self, name: str, kind: Any, arguments: int) -> Any:
        known = self.module.globals.get(name)
        return known or ir.Function(self.module, ir.FunctionType(kind, [kind] * arguments), name)

    def integer(self, value: Integer | int) -> Integer:
        """Return a number as one of the machine code's."""
        return Integer(self, ir.Constant(INT, value)) if isinstance(value, int) else value

    def splat(self, value: ir.Value, vector: ir.VectorType) -> ir.Value:
        """Return one number in every lane."""
        undefined, zero = ir.Constant(vector, ir.Undefined), ir.IntType(32)(0)
        first = self.builder.insert_element(undefined, value, zero)
        return self.builder.shuffle_vector(
            first, undefined, ir.VectorType(ir.IntType(32), self.lanes)([0] * self.lanes)
        )

    def registers(self, rows: int, columns: int) -> list[list[Register]]:
        """Return registers in rows and columns."""
        return [[Register(self) for _ in range(columns)] for _ in range(rows)]

    @contextmanager
    def loop(self, start: Integer | int, stop: Integer | int, step: int | Integer = 1) -> Iterator[Integer]:
        """Write the body of `for i in range(start, stop, step)`; the step is positive."""
        builder, start, stop = self.builder, self.integer(start), self.integer(stop)
        before = builder.block
        head, body, end = (builder.append_basic_block() for _ in range(3))
        builder.branch(head)
        builder.position_at_end(head)
        number = builder.phi(INT)
        number.add_incoming(start.value, before)
        builder.cbranch(builder.icmp_signed("<", number, stop.value), body, end)
        builder.position_at_end(body)
        yield Integer(self, number)
        number.add_incoming((Integer(self, number) + step).value, builder.block)
        builder.branch(head)
        builder.position_at_end(end)
