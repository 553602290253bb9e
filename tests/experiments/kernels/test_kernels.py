"""The language of kernels: each word does in machine code what it says, on vectors of every width."""

import math

import pytest
import torch

from experiments.kernels import machine, tiles
from experiments.kernels.code import Code
from experiments.kernels.machine import compiled, lanes, over_threads
from experiments.kernels.storage import Pointer, Register
from experiments.kernels.tiles import even_tiles
from experiments.kernels.values import Integer


@pytest.fixture(params=[torch.float32, torch.float64], ids=["single", "double"])
def dtype(request):
    return request.param


def test_integers(dtype):
    def kernel(code: Code, one: Pointer, y: Pointer, a: Integer, b: Integer, *, c: int):
        numbers = [a + b, 7 + a, a - b, 1 - a, a * b, 3 * a, b // a, a.at_most(b), b.at_least(c)]
        for index, number in enumerate(numbers):
            with code.loop(0, number) as i:  # as many ones as the number says
                y.store(index * 100 + i, one.broadcast(0))

    y = torch.zeros(1000, dtype=dtype)
    compiled(kernel, dtype, c=20)(torch.ones(1, dtype=dtype), y, 3, 17)
    tail = lanes(dtype) - 1  # the last store writes a whole vector
    found = [int(part.sum()) - tail if part.any() else 0 for part in y.split(100)]
    assert found == [20, 10, 0, 0, 51, 9, 5, 3, 20, 0]


def test_vectors(dtype):
    def kernel(code: Code, x: Pointer, y: Pointer):
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
    compiled(kernel, dtype)(x, y)
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
    def kernel(code: Code, x: Pointer, y: Pointer, rows: Integer, columns: Integer):
        total = Register(code, wide=True)
        with code.loop(0, rows) as i:
            total.clear()
            with code.loop(i, columns, 2) as j:
                total.set(total.get() + x.broadcast(i * columns + j).widened())
            y.put(i, total.get().total())

    x, y = torch.randn(5, 11, dtype=dtype), torch.zeros(5, dtype=dtype)
    compiled(kernel, dtype)(x, y, 5, 11)
    expected = torch.stack([row[i::2].sum() for i, row in enumerate(x)]) * lanes(dtype)
    torch.testing.assert_close(y, expected)


def test_a_kernel_is_compiled_once_for_each_choice():
    def kernel(code: Code, x: Pointer, y: Pointer, *, which: int):
        y.store(0, x.broadcast(which))

    one, again, two = (compiled(kernel, torch.float32, which=which) for which in (0, 0, 1))
    assert one is again
    x, y = torch.tensor([1.0, 2.0]), torch.zeros(2, lanes(torch.float32))
    one(x, y[0])
    two(x, y[1])
    assert y[0].eq(1).all()
    assert y[1].eq(2).all()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_share_the_work_without_gap_or_overlap(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for count in (1, 3, 7):
        parts = []
        over_threads(count, lambda start, stop: parts.append(range(start, stop)), 1e9)  # noqa: B023
        assert sorted(i for part in parts for i in part) == list(range(count))
        assert len(parts) == min(threads, count)


def test_an_error_in_a_thread_is_raised(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    def fail(start: int, stop: int) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        over_threads(2, fail, 1e9)


def test_threads_are_used_where_they_are_worth_it(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    for nanoseconds, threads in (
        (0, 1),
        (machine.THREAD_NANOSECONDS / 4, 2),
        (machine.THREAD_NANOSECONDS, 4),
    ):
        parts = []
        over_threads(8, lambda start, stop: parts.append((start, stop)), nanoseconds)  # noqa: B023
        assert len(parts) == threads


@pytest.mark.parametrize("most", [1, 4, 6, 24])
def test_tiles_cover_each_channel_once(most):
    for count in range(1, 200):
        covered = []
        for begin, end, size in even_tiles(count, most):
            assert size <= most
            assert (end - begin) % size == 0
            covered += range(begin, end)
        assert covered == list(range(count))


def test_tiles_of_vectors_waste_little(monkeypatch):
    """What they compute, in vectors, beside the vectors that there are."""
    monkeypatch.setattr(tiles, "accumulators", lambda: 24)
    tile_vectors = tiles.tile_vectors.__wrapped__
    for columns in range(16, 500):
        vectors = tile_vectors(columns, 16)
        assert vectors * 16 <= columns
        computed = -(-columns // (vectors * 16)) * vectors
        assert computed <= 1.35 * -(-columns // 16) + 1
    assert [tile_vectors(columns, 16) for columns in (16, 64, 80, 128, 160)] == [1, 4, 3, 4, 4]
    assert tile_vectors(160, 16, saving=0) == 2


def test_the_machine_has_registers_for_a_tile():
    assert lanes(torch.float32) == 2 * lanes(torch.float64)
    assert machine.accumulators() % 6 == 0
