"""Products of all members at once: right in every layout, and a member's the same whoever is beside it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from experiments.kernels import machine, matrices
from experiments.kernels.matrices import product
from tests.experiments.kernels.processors import vectors_of

DTYPES = {"single": torch.float32, "double": torch.float64}


def both_layouts(random: torch.Generator, *shape: int, dtype: torch.dtype) -> list[Tensor]:
    x = torch.randn(*shape, generator=random, dtype=dtype)
    return [x, x.mT.contiguous().mT]


def assert_exact(a: Tensor, b: Tensor) -> None:
    got = product(a, b)
    assert got.is_contiguous()
    assert got.dtype == a.dtype
    tolerance = 1e-5 if a.dtype == torch.float32 else 1e-13
    scale = tolerance * a.shape[2] ** 0.5
    torch.testing.assert_close(got.double(), a.double() @ b.double(), rtol=tolerance, atol=scale)


SHAPES = [(16, 16, 64), (256, 256, 64), (10, 200, 64)]  # as in layers, the last of them the last layer
SHAPES += [(37, 41, 100), (64, 7, 19)]  # tiles that overlap, of rows and of columns
SHAPES += [(5, 3, 11), (3, 2, 1), (1, 1, 1)]  # fewer than a vector


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize(("n", "k", "m"), SHAPES)
def test_products_are_those_of_double_precision(n, k, m, dtype):
    random = torch.Generator().manual_seed(n)
    for a in both_layouts(random, 3, n, k, dtype=dtype):
        for b in both_layouts(random, 3, k, m, dtype=dtype):
            assert_exact(a, b)
            assert_exact(a, b[1:2].expand(3, -1, -1))  # data that members share
            assert_exact(a[2:], b[2:])
            assert_exact(a[:, :, :1].expand(a.shape), b[:, :1, :1].expand(b.shape))  # a sum's gradient, say


@settings(max_examples=60)
@given(st.tuples(*[st.integers(1, 3)], *[st.integers(1, 150)] * 3), st.sampled_from(list(DTYPES.values())))
def test_products_of_any_shape(shape, dtype):
    members, n, k, m = shape
    random = torch.Generator().manual_seed(0)
    for a in both_layouts(random, members, n, k, dtype=dtype):
        for b in both_layouts(random, members, k, m, dtype=dtype):
            assert_exact(a, b)


@pytest.mark.parametrize("width", [13, 64, 256])
def test_a_member_alone_has_its_product_of_the_stack(width):
    a, b = torch.randn(4, width, width), torch.randn(4, width, 64)
    for left, right in ((a, b), (a.mT, b), (b, b.mT)):
        assert torch.equal(product(left[2:3], right[2:3])[0], product(left, right)[2])


def test_numbers_that_overflow_are_infinite_without_a_warning():
    huge = torch.full((2, 3, 3), 1e30)
    assert product(huge, huge).isinf().all()
    assert product(huge * torch.inf, 0 * huge).isnan().all()


def test_threads_change_no_bit(monkeypatch):
    a, b = torch.randn(2, 50, 33), torch.randn(2, 40, 33).mT
    one = product(a, b)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(machine, "THREAD_NANOSECONDS", 1)
    assert product(a, b).equal(one)


@pytest.mark.parametrize("vector_bytes", [16, 32])
def test_vectors_of_other_processors_compute_the_same(vector_bytes):
    with vectors_of(vector_bytes):
        # Their vectors are in use: two of them are the columns of a tile.
        assert matrices._tile(64, 64, torch.float32).columns == 2 * vector_bytes // 4
        for shape in SHAPES:
            test_products_are_those_of_double_precision(*shape, torch.float32)
