"""What the tests of layers share: random numbers, gradients, and how close to double precision is equal."""

import torch
from torch import Tensor


def randn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def with_gradients(function, *arguments: Tensor) -> list[Tensor]:
    """What a function returns, and its gradients, when a fixed random gradient comes back."""
    arguments = tuple(argument.detach().requires_grad_() for argument in arguments)
    y = function(*arguments)
    back = randn(*y.shape, dtype=torch.double, seed=9).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, arguments, back)]


def assert_equal(ours: list[Tensor], expected: list[Tensor]) -> None:
    for got, wanted in zip(ours, expected, strict=True):
        tolerance = 5e-6 if got.dtype == torch.float32 else 1e-12
        assert (got - wanted).abs().max() <= tolerance * wanted.abs().max()
