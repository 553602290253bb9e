"""Moments of noise, operation by operation, against draws of the noise and against closed forms."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from analysis.theory import noise_variance
from analysis.theory.noise_moments import (
    NO_FACTOR,
    Noisy,
    Normal,
    batch_moments,
    independent,
    moments,
    rectified,
    rectified_maximum,
    scaled,
    total,
    without_noise,
)
from analysis.theory.noises import family
from tests.analysis.theory.noisy_layers import deterministic, draw_noise, seeds, strengths

DRAWS = 50_000
NOTHING = ("none", 0.0)


def variables(
    noise: tuple[str, float], shape: tuple[int, ...], generator: torch.Generator, smallest: float = 0.0
) -> Noisy:
    """Variables y = m z + r of all signs, of variances from `smallest` to 1, many of them small."""

    def normal() -> Normal:
        mean = torch.randn(shape, generator=generator, dtype=torch.double)
        uniform = torch.rand(shape, generator=generator, dtype=torch.double)
        return Normal(mean, smallest + (1 - smallest) * uniform**4)

    return Noisy(normal(), normal(), family(noise[0]).law(noise[1]))


def drawn(y: Noisy, noise: tuple[str, float], generator: torch.Generator) -> Tensor:
    """Draws of y by its definition, [DRAWS, *shape]."""

    def normal(of: Normal) -> Tensor:
        unit = torch.randn(DRAWS, *of.mean.shape, generator=generator, dtype=torch.double)
        return of.mean + of.variance.sqrt() * unit

    z, r = normal(y.z), normal(y.r)
    return (z if noise == NOTHING else z * draw_noise(*noise, z.shape, generator)) + r


def assert_moments_of(draws: Tensor, found: Normal, quadrature: float = 0.0) -> None:
    """Mean and variance within five standard errors, and the tolerance of a quadrature, in deviations."""
    mean, variance = draws.mean(0), draws.var(0)
    error = (variance / DRAWS).sqrt()
    error_of_variance = ((draws - mean).square() - variance).square().mean(0).sqrt() / math.sqrt(DRAWS)
    assert ((found.mean - mean).abs() <= 5 * error + quadrature * variance.sqrt() + 1e-5).all()
    assert (
        (found.variance - variance).abs() <= 5 * error_of_variance + 2 * quadrature * variance + 1e-5
    ).all()


all_noises = st.one_of(strengths, st.just(NOTHING))


@deterministic
@given(all_noises, seeds)
def test_mean_and_variance_under_noise_are_those_of_draws(noise, seed):
    generator = torch.Generator().manual_seed(seed)
    y = variables(noise, (6,), generator)
    assert_moments_of(drawn(y, noise, generator), moments(y))


@deterministic
@given(all_noises, seeds)
def test_rectified_moments_are_those_of_draws(noise, seed):
    generator = torch.Generator().manual_seed(seed)
    y = variables(noise, (6,), generator)
    assert_moments_of(F.relu(drawn(y, noise, generator)), rectified(y), quadrature=0.003)


@deterministic
@given(all_noises, st.integers(1, 4), seeds)
def test_moments_of_a_rectified_maximum_are_those_of_draws(noise, count, seed):
    generator = torch.Generator().manual_seed(seed)
    y = variables(noise, (3, count), generator, smallest=0.1)
    assert_moments_of(F.relu(drawn(y, noise, generator)).amax(-1), rectified_maximum(y), quadrature=0.003)


def test_of_nearly_constant_variables_maxima_are_right_in_the_mean():
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(1000, 4, generator=generator, dtype=torch.double)
    y = independent(Normal(mean, torch.full_like(mean, 1e-6)))._replace(law=family("dropout").law(0.5))
    factors = torch.cartesian_prod(*[torch.tensor([0.0, 2.0])] * 4)  # [16, 4], equally likely
    largest = F.relu(factors * mean.unsqueeze(1)).amax(-1)
    found = rectified_maximum(y)
    assert found.mean.mean().item() == pytest.approx(largest.mean().item(), rel=0.005)
    assert found.variance.mean().item() == pytest.approx(largest.var(1, correction=0).mean().item(), rel=0.01)


@deterministic
@given(all_noises, strengths, seeds)
def test_a_sum_has_the_rectified_moments_of_draws(noise, of_other, seed):
    """One factor is kept; the other's variable counts as normal, so its mean and variance alone are right."""
    generator = torch.Generator().manual_seed(seed)
    y, other = variables(noise, (6,), generator), variables(of_other, (6,), generator)
    draws = drawn(y, noise, generator) + drawn(other, of_other, generator)
    assert_moments_of(draws, moments(total(y, other)))
    plain = variables(NOTHING, (6,), generator)
    draws = F.relu(drawn(y, noise, generator) + drawn(plain, NOTHING, generator))
    assert_moments_of(draws, rectified(total(y, plain)), quadrature=0.003)


@deterministic
@given(all_noises, seeds)
def test_batch_norm_scales_what_it_reads_to_mean_0_and_variance_1(noise, seed):
    generator = torch.Generator().manual_seed(seed)
    y = variables(noise, (3, 2, 2, 1), generator)
    draws = drawn(y, noise, generator).movedim(2, 0).flatten(1)  # [channels, draws of all]
    mean, variance = batch_moments(y)
    assert mean.tolist() == pytest.approx(draws.mean(1).tolist(), abs=0.03)
    assert variance.tolist() == pytest.approx(draws.var(1).tolist(), rel=0.04)
    scale = variance.rsqrt().view(-1, 1, 1)
    normed = batch_moments(scaled(y, scale, -mean.view(-1, 1, 1) * scale))
    assert normed.mean.tolist() == pytest.approx([0] * 2, abs=1e-12)
    assert normed.variance.tolist() == pytest.approx([1] * 2)


def test_a_half_normal_variable_has_its_closed_form():
    zero, one = torch.zeros(1).double(), torch.ones(1).double()
    for found in (
        rectified(independent(Normal(zero, one))),
        rectified_maximum(independent(Normal(zero, one))),
    ):
        assert found.mean.item() == pytest.approx(1 / math.sqrt(2 * math.pi), rel=1e-3)
        assert found.variance.item() == pytest.approx(0.5 - 1 / (2 * math.pi), rel=1e-3)


@pytest.mark.parametrize("noise", [("dropout", 0.3), ("dropout", 0.5)])
def test_behind_dropout_of_constants_the_rectified_moments_are_exact(noise):
    """No closure yet: m takes two values. What is left is the smallest deviation."""
    x = torch.linspace(-2, 2, 9).double()
    shift = torch.full_like(x, 0.3)
    y = scaled(without_noise(x)._replace(law=family(noise[0]).law(noise[1])), torch.ones(1), shift)
    dropped, kept = F.relu(shift), F.relu(x / (1 - noise[1]) + shift)
    mean = noise[1] * dropped + (1 - noise[1]) * kept
    variance = noise[1] * dropped.square() + (1 - noise[1]) * kept.square() - mean.square()
    found = rectified(y)
    assert torch.allclose(found.mean, mean, rtol=1e-9, atol=1e-6)
    assert torch.allclose(found.variance, variance, rtol=1e-9, atol=1e-6)
    assert moments(y).variance.tolist() == pytest.approx((noise_variance(*noise) * x**2).tolist())
    assert y.law is not NO_FACTOR
