"""Kernels as functions: arguments by name, compiled once, work shared by threads."""

import struct

import pytest
import torch

from experiments.kernels import machine
from experiments.kernels.language import Code, DoublePointer, Integer, IntegerPointer, Pointer, Real
from experiments.kernels.machine import compiled, has_kernels, lanes, over_threads


def test_a_kernel_is_compiled_once_for_each_choice():
    def kernel(code: Code, x: Pointer, y: Pointer, start: Integer, stop: Integer, *, which: int):
        y.store(0, x.broadcast(which))

    one, again, two = (compiled(kernel, torch.float32, which=which) for which in (0, 0, 1))
    assert one is again
    x, y = torch.tensor([1.0, 2.0]), torch.zeros(2, lanes(torch.float32))
    one(x=x, y=y[0])(0, 1)
    two(x=x, y=y[1])(0, 1)
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


def test_the_machine_has_registers_for_a_tile():
    assert lanes(torch.float32) == 2 * lanes(torch.float64)
    assert machine.accumulators() % 6 == 0


def scale(code: Code, x: Pointer, y: Pointer, factor: Real, shift: Integer, start: Integer, stop: Integer):
    with code.loop(start, stop) as i:
        y.put(i, x.number(i + shift) * factor)


def test_arguments_are_passed_by_name_in_any_order():
    x, y = torch.arange(6.0), torch.zeros(4)
    work = compiled(scale, torch.float32)(shift=2, factor=0.5, y=y, x=x)
    work(1, 3)
    assert y.tolist() == [0, 1.5, 2, 0]
    work(3, 4)
    assert y.tolist() == [0, 1.5, 2, 2.5]


def test_a_wrong_argument_is_an_error_that_names_it():
    kernel, x = compiled(scale, torch.float32), torch.zeros(4)
    with pytest.raises(TypeError, match=r"scale\(\) missing 1 required .* 'shift'"):
        kernel(x=x, y=x, factor=1.0)
    with pytest.raises(TypeError, match=r"scale\(\) got an unexpected .* 'shifts'"):
        kernel(x=x, y=x, factor=1.0, shift=1, shifts=1)
    with pytest.raises(TypeError, match=r"scale\(\) takes 0 positional"):
        kernel(x, y=x, factor=1.0, shift=1)
    with pytest.raises(struct.error, match="not an integer"):
        kernel(x=x, y=x, factor=1.0, shift=1.5)


def test_a_kernel_must_do_a_part_of_its_work():
    def whole(code: Code, x: Pointer, count: Integer):
        raise AssertionError

    with pytest.raises(TypeError, match="the last arguments of whole must be start and stop"):
        compiled(whole, torch.float32)


def test_pointers_to_other_kinds_of_numbers():
    def pick(code: Code, x: Pointer, which: IntegerPointer, y: DoublePointer, start: Integer, stop: Integer):
        with code.loop(start, stop) as i:
            y.put(i, x.number(which.integer(i)))

    y = torch.zeros(3, dtype=torch.double)
    compiled(pick, torch.float32)(x=torch.tensor([5.0, 6.0, 7.0]), which=torch.tensor([2, 0, 2]), y=y)(0, 3)
    assert y.tolist() == [7, 5, 7]


def test_work_keeps_its_tensors_alive():
    y = torch.zeros(4)
    work = compiled(scale, torch.float32)(x=torch.arange(4.0), y=y, factor=1.0, shift=0)
    others = [torch.full((4,), 9.0) for _ in range(100)]
    work(0, 4)
    assert y.tolist() == [0, 1, 2, 3]
    assert len(others) == 100


def test_kernels_are_for_a_cpu():
    assert has_kernels(torch.empty(1))
    assert has_kernels(torch.empty(1, dtype=torch.double))
    assert not has_kernels(torch.empty(1, dtype=torch.bfloat16))
    assert not has_kernels(torch.empty(1, device="meta"))
