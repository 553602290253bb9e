"""Products of all members at once: right in every layout, and a member's the same whoever is beside it."""

import pytest
import torch

from experiments.networks.products import product


@pytest.mark.parametrize(("n", "k", "m"), [(8, 16, 24), (10, 64, 64), (256, 200, 264)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_are_those_of_double_precision(n, k, m, dtype):
    random = torch.Generator().manual_seed(n)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-13

    def both_layouts(*shape: int) -> list[torch.Tensor]:
        x = torch.randn(3, *shape, generator=random, dtype=dtype)
        return [x, x.mT.contiguous().mT]

    for a in both_layouts(n, k):
        for b in both_layouts(k, m):
            for left, right in ((a, b), (a[0], b[0])):
                got = product(left, right)
                assert got.is_contiguous()
                assert got.dtype == dtype
                exact = left.double() @ right.double()
                torch.testing.assert_close(got.double(), exact, rtol=tolerance, atol=tolerance * k**0.5)


@pytest.mark.parametrize("width", [13, 64, 256])
def test_a_member_alone_has_its_product_of_the_stack(width):
    a, b = torch.randn(4, width, width), torch.randn(4, width, 64)
    for left, right in ((a, b), (a.mT, b), (b, b.mT)):
        assert torch.equal(product(left[2:3], right[2:3])[0], product(left, right)[2])


def test_numbers_that_overflow_are_infinite_without_a_warning():
    huge = torch.full((2, 3, 3), 1e30)
    assert product(huge, huge).isinf().all()
    assert product(huge * torch.inf, 0 * huge).isnan().all()
