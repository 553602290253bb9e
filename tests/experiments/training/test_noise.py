"""Noise: its moments, its pairing, and that it depends on nothing but seed, step and site."""

import pytest
import torch

from experiments.members import Member
from experiments.training.noise import (
    SiteNoise,
    uniform_draws,
)

CPU = torch.device("cpu")


def member(placement="before_bn", noise="dropout", strength=0.5, seed=0) -> Member:
    return Member(placement, noise, strength, seed, lr=0.1, weight_decay=0.0)


def site(members, shape=(6,), placement="before_bn") -> SiteNoise:
    return SiteNoise("a.site", placement, shape, members, CPU)


@pytest.mark.parametrize(
    ("noise", "strength"),
    [("dropout", 0.3), ("dropout", 0.7), ("uout", 1.0), ("uout", 0.2), ("gaussian", 1.5)],
)
def test_factor_has_mean_one_and_the_stated_variance(noise, strength):
    one = member(noise=noise, strength=strength)
    factor = site([one], shape=(500,)).factor(0, 2000).double()  # a million numbers
    assert factor.mean().item() == pytest.approx(1, abs=4 * (one.noise_variance / 1e6) ** 0.5)
    assert factor.var().item() == pytest.approx(one.noise_variance, rel=0.02)


def test_dropout_drops_at_its_rate_and_scales_the_rest():
    factor = site([member(strength=0.2)], shape=(500,)).factor(0, 200)
    assert sorted(factor.unique().tolist()) == pytest.approx([0, 1.25])
    assert (factor == 0).double().mean().item() == pytest.approx(0.2, abs=0.01)


def test_families_of_one_seed_share_the_draw():
    members = [member(), member(noise="gaussian", strength=1.0), member(noise="uout", strength=0.5)]
    dropout, gaussian, uout = site(members).factor(3, 50)
    u = (uout - 0.5) / 1.0  # 1 + beta (2 u - 1), solved for u
    assert torch.equal(dropout > 0, u >= 0.5)
    torch.testing.assert_close(gaussian, 1 + torch.special.ndtri(u), rtol=1e-3, atol=1e-4)


def test_factor_depends_on_seed_step_and_site_only():
    alone = site([member(seed=4, strength=0.3)]).factor(7, 8)[0]
    others = [member(seed=2), member(seed=4, strength=0.3), member(noise="uout", strength=1.0, seed=9)]
    assert torch.equal(site(others).factor(7, 8)[1], alone)
    assert not torch.equal(site([member(seed=4, strength=0.3)]).factor(8, 8)[0], alone)
    assert not torch.equal(site([member(seed=5, strength=0.3)]).factor(7, 8)[0], alone)
    elsewhere = SiteNoise("another.site", "before_bn", (6,), [member(seed=4, strength=0.3)], CPU)
    assert not torch.equal(elsewhere.factor(7, 8)[0], alone)


def test_members_without_noise_here_get_exactly_one():
    members = [
        member("none", "none", 0.0),
        member(),
        member("before_weight"),
        member(strength=0.0),
        member(noise="uout", strength=1.0),
        member("after_last_bn"),
    ]
    noise = site(members)
    factor = noise.factor(0, 30)
    for index in (0, 2, 3, 5):
        assert torch.equal(factor[index], torch.ones(30, 6))
    for index in (1, 4):
        assert factor[index].std() > 0.1
    assert noise.noise_variance.tolist() == pytest.approx([0, 1, 0, 0, 1 / 3, 0])


def test_a_site_of_another_placement_is_inactive():
    assert not site([member("before_weight"), member("none", "none", 0.0)]).is_active
    assert site([member("before_weight"), member()]).is_active


def test_images_draw_an_entry_for_each_pixel():
    factor = site([member(), member(seed=1)], shape=(3, 4, 5)).factor(0, 2)
    assert factor.shape == (2, 2, 3, 4, 5)
    assert not torch.equal(factor[0], factor[1])


def test_vectors_are_laid_out_features_first():
    draws = uniform_draws([(0, "x"), (1, "x")], 64, (16,), CPU)
    assert draws.shape == (2, 64, 16)
    assert draws.mT.is_contiguous()
    assert site([member(), member(seed=1)], shape=(16,)).factor(0, 64).mT.is_contiguous()
