"""The kernel of noise makes the factors that torch's operations do."""

import pytest
import torch

from experiments.kernels import machine
from experiments.kernels.factors import factors_by_kernel
from experiments.training.noise import factors_by_torch, uniform_draws

CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", [(16,), (1,), (5,), (3, 4, 5), (7, 40, 40)])
@pytest.mark.parametrize("batch", [2, 3, 64])
def test_a_kernel_makes_the_factors_that_torch_does(shape, batch, monkeypatch):
    draws = uniform_draws([(0, "x"), (1, "x")], batch, shape, CPU)
    which = torch.tensor([1, 0, 0, 1])
    parameters = torch.tensor([[0, 0, 0.3, 1 / 0.7], [0.5, 1, 0, 0], [1, 0, 0, 0], [1, 2, 0.9, 0.1]])
    factors = factors_by_kernel(draws, which, parameters)
    torch.testing.assert_close(factors, factors_by_torch(draws, which, parameters))
    assert factors.stride() == draws.stride()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(machine, "THREAD_NANOSECONDS", 1)
    assert factors_by_kernel(draws, which, parameters).equal(factors)
