"""Convolution and normalisation with the batch last, against plain torch in double precision, member by member."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from experiments.kernels import machine, tiles
from experiments.layers import layout, products, stacked_convolution, stacked_norms, weight_gradient
from experiments.layers.convolution import join_channels, on_images
from experiments.layers.layout import batch_first, batch_last, takes_batch_last
from experiments.layers.stacked_convolution import StackedConvolution
from experiments.layers.stacked_norms import StackedBatchNorm, StackedGroupNorm, channel_moments
from experiments.measuring.moments import Moments

# members, batch, channels, outputs, height, width, size, stride, padding, groups
GEOMETRIES = {
    "as in a residual net": (1, 128, 12, 12, 9, 9, 3, 1, 1, 1),
    "strided, a ragged batch, two members": (2, 100, 12, 24, 8, 8, 3, 2, 1, 1),
    "the stem, no padding, not square": (1, 16, 3, 5, 7, 9, 3, 1, 0, 1),
    "a projection in groups": (3, 33, 8, 12, 5, 6, 1, 2, 0, 2),
    "5 x 5, stride 3": (1, 64, 6, 6, 9, 9, 5, 3, 2, 3),
    "prime numbers of channels": (1, 48, 7, 13, 4, 4, 3, 2, 1, 1),
    "1 x 1": (2, 17, 16, 16, 4, 4, 1, 1, 0, 1),
    "more padding than image": (1, 80, 4, 4, 1, 1, 3, 1, 1, 1),
    "a single pixel, strided": (1, 20, 4, 4, 1, 1, 3, 2, 1, 1),
    "inputs that no output reads": (1, 70, 4, 4, 4, 4, 1, 3, 0, 1),
}


def randn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def with_gradients(function, *arguments: Tensor) -> list[Tensor]:
    """What a function returns, and its gradients, when a fixed random gradient comes back."""
    arguments = tuple(argument.detach().requires_grad_() for argument in arguments)
    y = function(*arguments)
    back = randn(*y.shape, dtype=torch.double, seed=9).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, arguments, back)]


def convolutions(geometry: tuple[int, ...], dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """Ours, and torch's in double precision."""
    members, batch, channels, outputs, height, width, size, stride, padding, groups = geometry
    x = randn(members, batch, channels, height, width, dtype=dtype)
    weight = randn(members, outputs, channels // groups, size, size, dtype=dtype, seed=1)
    assert takes_batch_last(x)

    def torch_convolution(x, weight):
        each = [F.conv2d(*both, None, stride, padding, 1, groups) for both in zip(x, weight, strict=True)]
        return torch.stack(each)

    ours = with_gradients(
        lambda x, weight: StackedConvolution.apply(x, weight, stride, padding, groups), x, weight
    )
    return ours, with_gradients(torch_convolution, x.double(), weight.double())


def assert_equal(ours: list[Tensor], expected: list[Tensor]) -> None:
    for got, wanted in zip(ours, expected, strict=True):
        tolerance = 5e-6 if got.dtype == torch.float32 else 1e-12
        assert (got - wanted).abs().max() <= tolerance * wanted.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES.keys())
def test_convolution_is_torch_s(geometry, dtype):
    assert_equal(*convolutions(geometry, dtype))


@pytest.mark.parametrize("many", [1, 10**9], ids=["many", "few"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
def test_the_ways_of_many_and_of_few_channels(many, dtype, monkeypatch):
    """Whatever their number: tap by tap or not, vectors of channels or of samples, and few sums at once."""
    for module in (stacked_convolution, weight_gradient):
        monkeypatch.setattr(module, "MANY_CHANNELS", many)
    monkeypatch.setattr(weight_gradient, "SUMS_BYTES", 1)
    wide = (1, 20, 50, 70, 5, 4, 3, 2, 1, 1)
    for geometry in (*GEOMETRIES.values(), wide):
        assert_equal(*convolutions(geometry, dtype))


@settings(max_examples=40)
@given(st.data())
def test_convolution_of_any_geometry(data):
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    size, stride, groups = draw(1, 5), draw(1, 3), draw(1, 3)
    height, width = draw(size, 9), draw(size, 9)
    batch = draw(machine.lanes(torch.float32), 150)
    channels, outputs = draw(1, 9) * groups, draw(1, 15) * groups
    padding = draw(0, size - 1)
    geometry = (draw(1, 2), batch, channels, outputs, height, width, size, stride, padding, groups)
    assert_equal(*convolutions(geometry, torch.float32))


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
    arguments = norm_arguments(members, batch, channels, dtype, space)
    running = torch.zeros(members, channels, dtype=dtype), torch.ones(members, channels, dtype=dtype)
    expected = running[0].double(), running[1].double()

    def torch_norm(x, weight, bias):
        each = zip(x, *expected, weight, bias, strict=True)
        y = torch.stack([F.batch_norm(*parts, True, 0.3, 1e-5) for parts in each])
        return F.relu(y) if relu else y

    ours = with_gradients(lambda *a: StackedBatchNorm.apply(*a, running, 0.3, 1e-5, relu), *arguments)
    assert_equal(ours, with_gradients(torch_norm, *(a.double() for a in arguments)))
    assert_equal(list(running), list(expected))


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


@pytest.mark.parametrize("space", [(4, 4), ()], ids=["images", "features"])
def test_streamed_moments_are_the_same_in_either_layout(space):
    x = randn(2, 40, 5, *space, dtype=torch.double)
    either = Moments(), Moments()
    for batch in x.split([25, 15], 1):
        either[0].update(batch)
    for batch in x.split([4, 36], 1):  # the first is less than a vector, and goes another way
        either[1].update(batch)
    torch.testing.assert_close(either[0].variance, either[1].variance)
    torch.testing.assert_close(either[0].variance, x.transpose(1, 2).flatten(2).var(-1))
    torch.testing.assert_close(either[0].mean, x.transpose(1, 2).flatten(2).mean(-1))


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
def test_vectors_of_every_width_compute_the_same(vector_bytes, monkeypatch):
    """Also those of other processors, with their fewer registers, which this one's compiler takes apart."""
    for module in (machine, layout, products, stacked_convolution, stacked_norms, tiles, weight_gradient):
        if hasattr(module, "lanes"):
            monkeypatch.setattr(module, "lanes", lambda dtype: vector_bytes // dtype.itemsize)
        if hasattr(module, "accumulators"):
            monkeypatch.setattr(module, "accumulators", lambda: 24 if vector_bytes == 64 else 12)
    caches = machine.compiled, tiles.tile_vectors, products._tile
    try:
        for cache in caches:
            cache.cache_clear()
        for geometry in (*GEOMETRIES.values(), (1, 20, 50, 70, 5, 4, 3, 2, 1, 1)):
            assert_equal(*convolutions(geometry, torch.float32))
        for space in ((5, 6), ()):
            test_batch_normalisation_is_torch_s(3, 33, 5, space, torch.float32, True)
    finally:
        for cache in caches:
            cache.cache_clear()


def test_threads_change_no_bit(monkeypatch):
    one = convolutions((1, 40, 8, 8, 20, 6, 3, 1, 1, 1), torch.float32)[0]
    arguments = norm_arguments(1, 33, 5, torch.float32)
    running = torch.zeros(1, 5), torch.ones(1, 5)
    norm = lambda *a: StackedBatchNorm.apply(*a, running, 0.3, 1e-5, True)  # noqa: E731
    one += with_gradients(norm, *arguments)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(machine, "THREAD_NANOSECONDS", 1)
    three = convolutions((1, 40, 8, 8, 20, 6, 3, 1, 1, 1), torch.float32)[0] + with_gradients(
        norm, *arguments
    )
    assert all(a.equal(b) for a, b in zip(one, three, strict=True))


def test_a_member_that_diverges_touches_no_neighbour():
    geometry = (3, 20, 4, 6, 5, 5, 3, 2, 1, 1)
    x, weight = randn(3, 20, 4, 5, 5), randn(3, 6, 4, 3, 3, seed=1)
    clean = with_gradients(lambda *a: StackedConvolution.apply(*a, *geometry[7:]), x, weight)
    x[1], weight[1] = torch.inf, torch.nan
    spoilt = with_gradients(lambda *a: StackedConvolution.apply(*a, *geometry[7:]), x, weight)
    for before, after in zip(clean, spoilt, strict=True):
        assert after[[0, 2]].equal(before[[0, 2]])
        assert not after[1].isfinite().any()


def test_data_are_laid_out_from_either_layout():
    x = randn(2, 20, 3, 4, 5)
    for part in (x, x[:1]):
        for format_ in (torch.contiguous_format, torch.channels_last):
            laid = batch_last(torch.stack([images.contiguous(memory_format=format_) for images in part]))
            assert laid.is_contiguous()
            assert laid.equal(part.permute(0, 3, 4, 2, 1))
            alone = part[0].contiguous(memory_format=format_)[None]
            assert batch_last(alone).equal(part[:1].permute(0, 3, 4, 2, 1))


def test_laying_out_copies_once_at_most():
    x = randn(1, 20, 3, 4, 5)
    laid = batch_last(x)
    assert laid.shape == (1, 4, 5, 3, 20)
    assert laid.is_contiguous()
    assert batch_first(laid).equal(x)
    assert batch_last(batch_first(laid)).data_ptr() == laid.data_ptr()
    shared = batch_last(x.expand(7, *x.shape[1:]))
    assert shared.shape[0] == 7
    assert shared.untyped_storage().nbytes() == laid.untyped_storage().nbytes()


@pytest.mark.parametrize("pool", [lambda x: F.max_pool2d(x, 3, 2, padding=1), lambda x: F.avg_pool2d(x, 2)])
def test_pooling_keeps_the_layout(pool):
    x = batch_first(batch_last(randn(2, 20, 3, 6, 7)))
    ours = with_gradients(lambda x: on_images(pool, x), x)
    expected = with_gradients(lambda x: torch.stack([pool(images) for images in x]), x)
    assert_equal(ours, [part.double() for part in expected])
    assert batch_last(ours[0]).data_ptr() == ours[0].data_ptr()


def test_joining_channels_keeps_the_layout():
    x, y = randn(2, 20, 3, 4, 4), randn(2, 20, 5, 4, 4, seed=1)
    joined = join_channels(batch_first(batch_last(x)), y)
    assert joined.equal(torch.cat([x, y], 2))
    assert batch_last(joined).data_ptr() == joined.data_ptr()


def test_who_is_laid_out_batch_last():
    enough = machine.lanes(torch.float32)
    assert takes_batch_last(torch.empty(1, enough, 3, 4, 4))
    assert not takes_batch_last(torch.empty(1, enough - 1, 3, 4, 4))
    assert not takes_batch_last(torch.empty(enough, 3, 4, 4))  # one plain network's
    assert not takes_batch_last(torch.empty(1, enough, 3, 4, 4, device="meta"))
    assert not takes_batch_last(torch.empty(1, enough, 3, 4, 4, dtype=torch.bfloat16))
    with torch.autocast("cpu", torch.bfloat16):
        assert not takes_batch_last(torch.empty(1, enough, 3, 4, 4))
