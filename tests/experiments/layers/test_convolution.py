"""Convolution with the batch last, against plain torch in double precision, member by member."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from experiments.kernels import correlation, machine, weight_gradient
from experiments.layers.convolution import Conv2d, StackedConvolution, convolution_plus
from experiments.layers.layout import takes_batch_last
from tests.experiments.kernels.processors import vectors_of
from tests.experiments.layers.against_torch import assert_equal, randn, with_gradients

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


def convolutions(geometry: tuple[int, ...], dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """Ours, and torch's in double precision; with what is added to it."""
    members, batch, channels, outputs, height, width, size, stride, padding, groups = geometry
    x = randn(members, batch, channels, height, width, dtype=dtype)
    weight = randn(members, outputs, channels // groups, size, size, dtype=dtype, seed=1)
    assert takes_batch_last(x)

    def torch_convolution(x, weight, plus):
        each = [F.conv2d(*both, None, stride, padding, 1, groups) for both in zip(x, weight, strict=True)]
        return torch.stack(each) + plus

    space = [(length + 2 * padding - size) // stride + 1 for length in (height, width)]
    arguments = x, weight, randn(members, batch, outputs, *space, dtype=dtype, seed=2)
    ours = with_gradients(lambda *a: StackedConvolution.apply(*a, stride, padding, groups), *arguments)
    return ours, with_gradients(torch_convolution, *(a.double() for a in arguments))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES.keys())
def test_convolution_is_torch_s(geometry, dtype):
    assert_equal(*convolutions(geometry, dtype))


@pytest.mark.parametrize("many", [1, 10**9], ids=["many", "few"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
def test_the_ways_of_many_and_of_few_channels(many, dtype, monkeypatch):
    """Whatever their number: tap by tap or not, vectors of channels or of samples, and few sums at once."""
    for module in (correlation, weight_gradient):
        monkeypatch.setattr(module, "MANY_CHANNELS", many)
    monkeypatch.setattr(weight_gradient, "MANY_PRODUCTS", 1)
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


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
def test_vectors_of_every_width_compute_the_same(vector_bytes):
    """Also those of other processors, with their fewer registers."""
    with vectors_of(vector_bytes):
        for geometry in (*GEOMETRIES.values(), (1, 20, 50, 70, 5, 4, 3, 2, 1, 1)):
            assert_equal(*convolutions(geometry, torch.float32))


def test_threads_change_no_bit(monkeypatch):
    geometry = (1, 40, 8, 8, 20, 6, 3, 1, 1, 1)
    one = convolutions(geometry, torch.float32)[0]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(machine, "THREAD_NANOSECONDS", 1)
    three = convolutions(geometry, torch.float32)[0]
    assert all(a.equal(b) for a, b in zip(one, three, strict=True))


def test_a_member_that_diverges_touches_no_neighbour():
    geometry = (3, 20, 4, 6, 5, 5, 3, 2, 1, 1)
    x, weight = randn(3, 20, 4, 5, 5), randn(3, 6, 4, 3, 3, seed=1)
    clean = with_gradients(lambda *a: StackedConvolution.apply(*a, None, *geometry[7:]), x, weight)
    x[1], weight[1] = torch.inf, torch.nan
    spoilt = with_gradients(lambda *a: StackedConvolution.apply(*a, None, *geometry[7:]), x, weight)
    for before, after in zip(clean, spoilt, strict=True):
        assert after[[0, 2]].equal(before[[0, 2]])
        assert not after[1].isfinite().any()


def test_members_convolve_as_groups_where_they_do_not_lie_batch_last():
    torch.manual_seed(0)
    layers = [Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False).double() for _ in range(3)]
    fewer_than_a_vector = machine.lanes(torch.double) - 1
    x = torch.randn(3, fewer_than_a_vector, 4, 7, 7, dtype=torch.double)
    stacked = Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False).double()
    stacked.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))
    assert not takes_batch_last(x)
    expected = torch.stack([layer(images) for layer, images in zip(layers, x, strict=True)])
    torch.testing.assert_close(stacked(x), expected)
    torch.testing.assert_close(convolution_plus(stacked, x, expected), 2 * expected)
