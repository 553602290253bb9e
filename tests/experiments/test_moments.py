"""Streamed moments against numpy over everything at once."""

import numpy as np
import pytest
import torch

from experiments.moments import Moments


@pytest.mark.parametrize("shape", [(3, 40, 5), (2, 40, 4, 3, 2)])
@pytest.mark.parametrize("splits", [1, 7])
def test_moments_are_pooled_and_unbiased(shape, splits):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)) + torch.arange(40.0).view(
        1, 40, *[1] * (len(shape) - 2)
    )
    moments = Moments()
    for part in x.tensor_split(splits, dim=1):
        moments.update(part)
    rows = np.moveaxis(x.double().numpy(), 2, 1).reshape(shape[0], shape[2], -1)
    np.testing.assert_allclose(moments.mean.numpy(), rows.mean(-1), rtol=1e-6)
    np.testing.assert_allclose(moments.variance.numpy(), rows.var(-1, ddof=1), rtol=1e-6)


def test_a_large_mean_costs_no_digits():
    x = torch.randn(1, 1000, 1, dtype=torch.double) + 1e4
    moments = Moments()
    for part in x.float().split(100, dim=1):
        moments.update(part)
    assert moments.variance.item() == pytest.approx(x.float().double().var().item(), rel=1e-4)
