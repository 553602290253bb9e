"""Streamed moments against numpy over everything at once."""

import numpy as np
import pytest
import torch

from experiments.measuring.moments import Moments, PatchMoments


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


@pytest.mark.parametrize("space", [(4, 4), ()], ids=["images", "features"])
def test_streamed_moments_are_the_same_in_either_layout(space):
    x = torch.randn(2, 40, 5, *space, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    either = Moments(), Moments()
    for batch in x.split([25, 15], 1):
        either[0].update(batch)
    for batch in x.split([4, 36], 1):  # the first is less than a vector, and goes another way
        either[1].update(batch)
    torch.testing.assert_close(either[0].variance, either[1].variance)
    torch.testing.assert_close(either[0].variance, x.transpose(1, 2).flatten(2).var(-1))
    torch.testing.assert_close(either[0].mean, x.transpose(1, 2).flatten(2).mean(-1))


@pytest.mark.parametrize(
    "geometry",
    [
        {"padding": 1},
        {"padding": 1, "stride": 2},
        {"dilation": 2, "padding": 3},
        {"groups": 2},
        {"padding": "same"},
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_moments_of_a_convolutions_patches_are_those_of_the_patches_themselves(geometry, mode):
    layer = torch.nn.Conv2d(4, 6, 3, padding_mode=mode, **geometry)
    x = torch.randn(2, 15, 4, 7, 9, generator=torch.Generator().manual_seed(2)).relu() + 0.3
    moments = PatchMoments(layer)
    for part in x.split(4, dim=1):
        moments.update(part)
    width = {"same": 1}.get(geometry.get("padding"), geometry.get("padding", 0))
    padded = torch.nn.functional.pad(
        x.flatten(0, 1).double(), (width,) * 4, mode="constant" if mode == "zeros" else mode
    )
    options = {key: geometry.get(key, 1) for key in ("dilation", "stride")}
    patches = torch.nn.functional.unfold(padded, 3, **options).unflatten(
        0, (2, 15)
    )  # [2, 15, entries, positions]
    entries = patches.movedim(2, 1).flatten(2).numpy()
    np.testing.assert_allclose(moments.mean.numpy(), entries.mean(-1), rtol=1e-5)
    np.testing.assert_allclose(moments.variance.numpy(), entries.var(-1, ddof=1), rtol=1e-5)
