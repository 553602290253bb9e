"""The language of kernels: each word does in machine code what it says, on vectors of every width."""

import math

import pytest
import torch

from experiments.kernels.language import Code, Integer, Pointer, Register
from experiments.kernels.machine import compiled, lanes


@pytest.fixture(params=[torch.float32, torch.float64], ids=["single", "double"])
def dtype(request):
    return request.param


def test_integers(dtype):
    def kernel(
        code: Code, one: Pointer, y: Pointer, a: Integer, b: Integer, start: Integer, stop: Integer, *, c: int
    ):
        numbers = [a + b, 7 + a, a - b, 1 - a, a * b, 3 * a, b // a, a.at_most(b), b.at_least(c)]
        for index, number in enumerate(numbers):
            with code.loop(0, number) as i:  # as many ones as the number says
                y.store(index * 100 + i, one.broadcast(0))

    y = torch.zeros(1000, dtype=dtype)
    compiled(kernel, dtype, c=20)(one=torch.ones(1, dtype=dtype), y=y, a=3, b=17)(0, 1)
    tail = lanes(dtype) - 1  # the last store writes a whole vector
    found = [int(part.sum()) - tail if part.any() else 0 for part in y.split(100)]
    assert found == [20, 10, 0, 0, 51, 9, 5, 3, 20, 0]


def test_vectors(dtype):
    def kernel(code: Code, x: Pointer, y: Pointer, start: Integer, stop: Integer):
        a, b = x.load(0), x.load(code.lanes)
        results = [a + b, a - b, a.times_plus(b, a), a.where_positive(b), x.broadcast(3)]
        results += [a.from_lane(code.integer(2))]
        for index, result in enumerate(results):
            y.store(index * code.lanes, result)
        total = a.widened().total()
        numbers = [
            total,
            total / code.integer(10).real(),
            x.number(5) * x.number(5) - 1.5,
            (total * total + 2.0).root(),
        ]
        numbers += [total.inverse() * 3.0]
        for index, number in enumerate(numbers):
            y.put(len(results) * code.lanes + index, number)

    n = lanes(dtype)
    x = torch.randn(2 * n, dtype=dtype, generator=torch.Generator().manual_seed(0))
    x[n : n + 3] = torch.tensor([math.nan, 0.0, -1.0])
    y = torch.zeros(6 * n + 6, dtype=dtype)
    compiled(kernel, dtype)(x=x, y=y)(0, 1)
    a, b = x[:n], x[n:]
    kept = torch.where((b > 0) | b.isnan(), a, 0)
    late = torch.where(torch.arange(n) >= 2, a, 0)
    expected = [
        a + b,
        a - b,
        a * b + a,
        kept,
        x[3].expand(n),
        late,
        torch.stack([a.sum(), a.sum() / 10, x[5] ** 2 - 1.5, (a.sum() ** 2 + 2).sqrt(), 3 / a.sum()]),
    ]
    torch.testing.assert_close(y[:-1], torch.cat(expected), equal_nan=True)
    assert y[-1] == 0  # nothing is written behind


def test_nested_loops_and_registers(dtype):
    def kernel(code: Code, x: Pointer, y: Pointer, columns: Integer, start: Integer, stop: Integer):
        total = Register(code, wide=True)
        with code.loop(start, stop) as i:
            total.clear()
            with code.loop(i, columns, 2) as j:
                total.set(total.get() + x.broadcast(i * columns + j).widened())
            y.put(i, total.get().total())

    x, y = torch.randn(5, 11, dtype=dtype), torch.zeros(5, dtype=dtype)
    compiled(kernel, dtype)(x=x, y=y, columns=11)(0, 5)
    expected = torch.stack([row[i::2].sum() for i, row in enumerate(x)]) * lanes(dtype)
    torch.testing.assert_close(y, expected)
