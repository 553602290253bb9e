"""Normalisation with the batch last, against plain torch in double precision, member by member."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.kernels import machine
from experiments.kernels.normalisation import channel_moments
from experiments.layers.layout import batch_last
from experiments.layers.norms import (
    BatchNorm,
    BatchNorm2d,
    StackedBatchNorm,
    StackedGroupNorm,
    norm_relu,
    norm_relu_beside,
)
from tests.experiments.kernels.processors import vectors_of
from tests.experiments.layers.against_torch import assert_equal, randn, with_gradients


def norm_arguments(
    members: int, batch: int, channels: int, dtype: torch.dtype, space: tuple[int, ...] = (5, 6)
) -> tuple[Tensor, ...]:
    x = 2 * randn(members, batch, channels, *space, dtype=dtype) + 3
    return x, randn(members, channels, dtype=dtype, seed=1), randn(members, channels, dtype=dtype, seed=2)


@pytest.mark.parametrize("relu", [False, True], ids=["", "ReLU"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
@pytest.mark.parametrize(("members", "batch", "channels"), [(1, 128, 12), (3, 33, 5), (2, 16, 1)])
@pytest.mark.parametrize("space", [(5, 6), (1, 1), ()], ids=["images", "single pixels", "features"])
def test_batch_normalisation_is_torch_s(members, batch, channels, space, dtype, relu):
    assert_batch_normalisation_is_torch_s(members, batch, channels, space, dtype, relu)


def assert_batch_normalisation_is_torch_s(members, batch, channels, space, dtype, relu):
    arguments = norm_arguments(members, batch, channels, dtype, space)
    running = torch.zeros(members, channels, dtype=dtype), torch.ones(members, channels, dtype=dtype)
    expected = running[0].double(), running[1].double()

    def torch_norm(x, weight, bias):
        each = zip(x, *expected, weight, bias, strict=True)
        y = torch.stack([F.batch_norm(*parts, True, 0.3, 1e-5) for parts in each])
        return F.relu(y) if relu else y

    ours = with_gradients(lambda *a: StackedBatchNorm.apply(*a, running, 0.3, 1e-5, relu)[0], *arguments)
    assert_equal(ours, with_gradients(torch_norm, *(a.double() for a in arguments)))
    assert_equal(list(running), list(expected))


@pytest.mark.parametrize("relu", [False, True], ids=["", "ReLU"])
@pytest.mark.parametrize(("members", "batch", "channels"), [(1, 128, 12), (3, 33, 5), (2, 16, 1)])
@pytest.mark.parametrize("space", [(5, 6), ()], ids=["images", "features"])
def test_batch_normalisation_by_what_is_stored_is_torch_s_with_and_without_gradients(
    members, batch, channels, space, relu
):
    x, weight, bias = norm_arguments(members, batch, channels, torch.float32, space)
    norm = BatchNorm2d(channels) if space else BatchNorm(channels)
    norm.weight, norm.bias = nn.Parameter(weight), nn.Parameter(bias)
    norm.running_mean, norm.running_var = randn(members, channels), randn(members, channels, seed=3).exp()
    each = zip(*(a.double() for a in (x, norm.running_mean, norm.running_var, weight, bias)), strict=True)
    expected = torch.stack([F.batch_norm(*parts, False, 0.1, 1e-5) for parts in each])
    expected = F.relu(expected) if relu else expected
    norm.eval()
    with torch.no_grad():
        y = norm(x, relu=relu)
    assert y.shape == x.shape
    assert_equal([y, norm(x, relu=relu).detach()], [expected, expected])


@pytest.mark.parametrize("joined", [False, True], ids=["a sum's", "a concatenation's"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("space", [(5, 6), ()], ids=["images", "features"])
def test_the_gradient_from_beside_a_norm_is_added_to_its_own(space, training, joined):
    """As in a residual block, whose input goes around it, or in a dense one, that appends to it."""
    x, weight, bias = norm_arguments(2, 19, 4, torch.float32, space)
    norm = BatchNorm2d(4) if space else BatchNorm(4)
    norm.weight, norm.bias = nn.Parameter(weight), nn.Parameter(bias)
    norm.running_mean, norm.running_var = torch.zeros(2, 4), torch.ones(2, 4)
    norm.train(training)
    join = (lambda a, b: torch.cat([a, b], 2)) if joined else torch.add
    beside = with_gradients(lambda x: join(*norm_relu_beside(norm, x)[::-1]), x)
    assert_equal(beside, with_gradients(lambda x: join(x, norm_relu(norm, x)), x))


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("space", [(5, 6), ()], ids=["images", "features"])
def test_group_normalisation_is_torch_s(groups, space):
    arguments = norm_arguments(2, 19, 12, torch.float32, space)

    def torch_norm(x, weight, bias):
        return torch.stack(
            [F.group_norm(a, groups, b, c, 1e-5) for a, b, c in zip(x, weight, bias, strict=True)]
        )

    ours = with_gradients(lambda *a: StackedGroupNorm.apply(*a, groups, 1e-5), *arguments)
    assert_equal(ours, with_gradients(torch_norm, *(a.double() for a in arguments)))


def test_moments_survive_a_large_mean():
    """Of the very numbers that single precision holds, which knows 1e4 + 0.1 z to 1e-3 alone."""
    x = 1e4 + 0.1 * randn(1, 64, 3, 8, 8)
    mean, squares = channel_moments(batch_last(x))
    exact = x.double().transpose(1, 2).flatten(2)
    torch.testing.assert_close(mean, exact.mean(-1), rtol=1e-9, atol=0)
    torch.testing.assert_close(squares / (64 * 64 - 1), exact.var(-1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
def test_vectors_of_every_width_compute_the_same(vector_bytes):
    """Also those of other processors."""
    with vectors_of(vector_bytes):
        for space in ((5, 6), ()):
            assert_batch_normalisation_is_torch_s(3, 33, 5, space, torch.float32, True)


def test_threads_change_no_bit(monkeypatch):
    arguments = norm_arguments(1, 33, 5, torch.float32)
    running = torch.zeros(1, 5), torch.ones(1, 5)
    norm = lambda *a: StackedBatchNorm.apply(*a, running, 0.3, 1e-5, True)[0]  # noqa: E731
    one = with_gradients(norm, *arguments)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(machine, "THREAD_NANOSECONDS", 1)
    assert all(a.equal(b) for a, b in zip(one, with_gradients(norm, *arguments), strict=True))
