"""Products by either library: right at every size, and whether a member stands alone or not."""

import pytest
import torch

from experiments.networks import products
from experiments.networks.products import product, stacked_product, transposed_stacked_product

# Operations of one product: below the threshold, at it, and far above.
SIZES = [(8, 16, 24), (128, 128, 128), (256, 200, 264)]


@pytest.mark.parametrize(("n", "k", "m"), SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_are_those_of_double_precision(n, k, m, dtype):
    random = torch.Generator().manual_seed(n)
    a = torch.randn(3, n, k, generator=random, dtype=dtype)
    # Both layouts: as they come, and with the transpose contiguous.
    for b in (
        torch.randn(3, k, m, generator=random, dtype=dtype),
        torch.randn(3, m, k, generator=random, dtype=dtype).mT,
    ):
        exact = a.double() @ b.double()
        for got, expected in (
            (product(a[0], b[0]), exact[0]),
            (stacked_product(a, b), exact),
            (transposed_stacked_product(a, b), exact.mT),
        ):
            assert got.is_contiguous()
            assert got.dtype == dtype
            tolerance = 1e-5 if dtype == torch.float32 else 1e-13
            torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=tolerance * k**0.5)


def test_a_member_alone_has_its_product_of_the_stack():
    a, b = torch.randn(4, 256, 256), torch.randn(4, 256, 64)
    torch.testing.assert_close(stacked_product(a[2:3], b[2:3])[0], stacked_product(a, b)[2], rtol=0, atol=0)


def test_large_single_precision_products_are_onednns(monkeypatch):
    calls = []
    monkeypatch.setattr(products, "_onednn_product", lambda a, b: calls.append(a.dtype) or a @ b)
    product(torch.randn(128, 128), torch.randn(128, 128))
    product(torch.randn(128, 128), torch.randn(128, 127))
    product(torch.randn(128, 128).double(), torch.randn(128, 128).double())
    assert calls == [torch.float32] * torch.backends.mkldnn.is_available()
