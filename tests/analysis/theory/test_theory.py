"""The theory's formulas against Monte Carlo, against the paper's own numbers, and against each other."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from analysis import theory
from analysis.theory.layers import fan_in, squared_cosine
from tests.analysis.theory.noisy_layers import (
    SAMPLES,
    channel_mean,
    channel_variance,
    deterministic,
    draw_noise,
    seeds,
    simulate,
    strengths,
    tolerance_of,
)

# --- noise families


@deterministic
@given(strengths, seeds)
def test_noise_variance_is_that_of_the_noise(family, seed):
    m = draw_noise(*family, (SAMPLES,), torch.Generator().manual_seed(seed)).double()
    assert m.mean().item() == pytest.approx(1, abs=0.01)
    assert theory.noise_variance(*family) == pytest.approx(m.var().item(), rel=tolerance_of(m))


@deterministic
@given(strengths)
def test_strength_for_inverts_noise_variance(family):
    noise, strength = family
    assert theory.strength_for(noise, theory.noise_variance(noise, strength)) == pytest.approx(strength)


def test_noise_variance_known_values():
    assert theory.noise_variance("none", 0) == 0
    assert theory.noise_variance("dropout", 0.9) == pytest.approx(9)  # a keep probability would give 1/9
    assert theory.strength_for("none", 0.0) == 0
    assert theory.strength_for("uout", theory.noise_variance("dropout", 0.25)) == pytest.approx(1)
    # The paper's Uout strengths, as the drop rates of equal noise variance (THEORY.md).
    betas_and_rates = [(0.1, 0.0033), (0.2, 0.0132), (0.3, 0.0291), (0.5, 0.077), (1.0, 0.25)]
    for beta, rate in betas_and_rates:
        equal_rate = theory.strength_for("dropout", theory.noise_variance("uout", beta))
        assert equal_rate == pytest.approx(rate, abs=5e-4 if beta == 0.5 else 5e-5)


@pytest.mark.parametrize(
    ("function", "noise", "value", "names"),
    [
        (theory.noise_variance, "bernoulli", 0.5, ["bernoulli", "none, dropout, uout, gaussian"]),
        (theory.noise_variance, "dropout", 1.0, ["dropout", "1.0", "[0, 1)"]),
        (theory.noise_variance, "dropout", -0.1, ["dropout", "-0.1", "[0, 1)"]),
        (theory.noise_variance, "dropout", math.nan, ["dropout", "nan"]),
        (theory.noise_variance, "uout", 1.01, ["uout", "1.01", "[0, 1]"]),
        (theory.noise_variance, "gaussian", -1.0, ["gaussian", "at least 0"]),
        (theory.noise_variance, "gaussian", math.inf, ["gaussian", "inf"]),
        (theory.noise_variance, "none", 0.1, ["none", "0.1"]),
        (theory.strength_for, "alpha", 0.5, ["alpha", "none, dropout, uout, gaussian"]),
        (theory.strength_for, "uout", 0.34, ["uout", "0.34", "0.333333"]),
        (theory.strength_for, "dropout", -0.1, ["dropout", "-0.1"]),
        (theory.strength_for, "dropout", math.inf, ["dropout", "inf"]),
        (theory.strength_for, "gaussian", math.nan, ["gaussian", "nan"]),
        (theory.strength_for, "none", 0.1, ["none", "0.1"]),
    ],
)
def test_bad_noise_is_named_with_what_is_allowed(function, noise, value, names):
    with pytest.raises(ValueError, match="allowed") as error:
        function(noise, value)
    assert "\n" not in str(error.value)
    assert [name for name in names if name not in str(error.value)] == []


# --- the paper's equations, where their assumptions hold


@deterministic
@given(strengths, st.floats(-2, 2), st.floats(0.2, 3), st.booleans(), seeds)
def test_eq_8_before_bn(family, c, v, rectify, seed):
    generator = torch.Generator().manual_seed(seed)
    x = c + math.sqrt(v) * torch.randn(SAMPLES, 1, generator=generator)
    x = F.relu(x + abs(c)) if rectify else x
    test, train = simulate(None, x, family, generator)
    mean, variance = channel_mean(test), channel_variance(test)
    predicted = theory.ratio_before_bn(mean, variance, theory.noise_variance(*family))
    torch.testing.assert_close(
        variance / channel_variance(train), predicted, rtol=tolerance_of(train), atol=0
    )


def test_eq_8_and_15_known_values():
    rectified_mean, rectified_variance = 1 / math.sqrt(2 * math.pi), 0.5 - 1 / (2 * math.pi)
    assert rectified_mean**2 / rectified_variance == pytest.approx(0.467, abs=5e-4)
    assert theory.ratio_before_bn(rectified_mean, rectified_variance, 1.0) == pytest.approx(0.405, abs=5e-4)
    for rate in (0.1, 0.3, 0.7):
        assert theory.ratio_nominal(theory.noise_variance("dropout", rate)) == pytest.approx(1 - rate)
    for beta in (0.1, 0.5, 1.0):
        assert theory.ratio_nominal(theory.noise_variance("uout", beta)) == pytest.approx(3 / (3 + beta**2))
    assert theory.ratio_before_bn(0.0, 2.5, 0.7) == pytest.approx(theory.ratio_nominal(0.7))


def equicorrelated(c, v, rho, samples, features, generator):
    """Gaussian inputs with one mean c, variance v and pairwise correlation rho. -> [samples, features]"""
    common = torch.randn(samples, 1, generator=generator)
    own = torch.randn(samples, features, generator=generator)
    return c + math.sqrt(v) * (math.sqrt(rho) * common + math.sqrt(1 - rho) * own)


@deterministic
@given(strengths, st.floats(-1, 1), st.floats(0.3, 2), st.floats(0, 0.9), st.integers(2, 8), seeds)
def test_eq_12_before_weight(family, c, v, rho, features, seed):
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(features, 3)
    nn.init.normal_(layer.weight, mean=0.3, generator=generator)
    x = equicorrelated(c, v, rho, SAMPLES, features, generator)
    test, train = simulate(layer, x, family, generator)
    predicted = theory.ratio_before_weight(
        c,
        v,
        rho,
        fan_in(layer.weight) * squared_cosine(layer.weight.detach()).double(),
        theory.noise_variance(*family),
    )
    measured = channel_variance(test) / channel_variance(train)
    torch.testing.assert_close(measured, predicted, rtol=tolerance_of(train), atol=0)


@deterministic
@given(st.floats(-2, 2), st.floats(0.1, 3), st.floats(0, 1), st.integers(2, 40), st.floats(0, 5), seeds)
def test_eq_12_is_the_exact_law_of_homogeneous_inputs(c, v, rho, features, noise_variance, seed):
    weight = torch.randn(4, features, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    covariance = v * (rho * torch.ones(features, features) + (1 - rho) * torch.eye(features)).double()
    test_variance = torch.einsum("fi,ij,fj->f", weight, covariance, weight)
    exact = theory.exact_ratio(test_variance, noise_variance, (c**2 + v) * (weight**2).sum(1))
    d_cos2 = features * squared_cosine(weight)
    torch.testing.assert_close(exact, theory.ratio_before_weight(c, v, rho, d_cos2, noise_variance))


def test_eq_12_limits():
    assert theory.ratio_before_weight(0.7, 1.3, 0.2, 1e9, 1.0) == pytest.approx(1, abs=1e-6)
    uncorrelated = [theory.ratio_before_weight(0.7, 1.3, 0.0, d_cos2, 1.0) for d_cos2 in (0.1, 1.0, 100.0)]
    assert uncorrelated == pytest.approx([theory.ratio_before_bn(0.7, 1.3, 1.0)] * 3)


# --- the small formulas


@pytest.mark.parametrize(
    "convert", [float, np.array, torch.tensor, pd.Series], ids=lambda kind: kind.__name__
)
def test_formulas_take_every_kind_of_number(convert):
    def number(*values):
        return convert(values[0] if convert is float else list(values))

    c, v, s2 = number(0.5, 0.1), number(2.0, 1.0), number(1.0, 0.25)
    results = {
        "ratio_before_bn": theory.ratio_before_bn(c, v, s2),
        "ratio_nominal": theory.ratio_nominal(s2),
        "ratio_before_weight": theory.ratio_before_weight(c, v, number(0.1, 0.0), number(3.0, 9.0), s2),
        "exact_ratio": theory.exact_ratio(v, s2, number(3.0, 4.0)),
        "input_correlation": theory.input_correlation(number(10.0, 4.0), v, 4),
        "shift_magnitude": theory.shift_magnitude(number(0.4, 1.25)),
    }
    expected = {
        "ratio_before_bn": (2 / 4.25, 1 / 1.2525),
        "ratio_nominal": (1 / 2, 1 / 1.25),
        "ratio_before_weight": (2.4 / 4.65, 1 / 1.2525),
        "exact_ratio": (2 / 5, 1 / 2),
        "input_correlation": (2 / 12 / 2, 0.0),
        "shift_magnitude": (2.5, 1.25),
    }
    for name, result in results.items():
        assert np.atleast_1d(np.asarray(result)) == pytest.approx(
            expected[name][: 1 if convert is float else 2], rel=1e-6
        ), name


@deterministic
@given(st.floats(1e-6, 1e6))
def test_shift_magnitude_is_the_larger_of_ratio_and_inverse(ratio):
    assert theory.shift_magnitude(ratio) == pytest.approx(max(ratio, 1 / ratio), rel=1e-12)


def test_shift_magnitude_at_the_edges():
    assert theory.shift_magnitude(1.0) == 1
    assert math.isnan(theory.shift_magnitude(math.nan))
    assert theory.shift_magnitude(0.0) == theory.shift_magnitude(math.inf) == math.inf
    magnitude = theory.shift_magnitude(torch.tensor([0.0, math.inf, math.nan, 0.5]))
    torch.testing.assert_close(magnitude, torch.tensor([math.inf, math.inf, math.nan, 2.0]), equal_nan=True)


@deterministic
@given(st.integers(2, 6), st.integers(3, 8), seeds)
def test_input_correlation_is_the_mean_off_diagonal_covariance(features, samples, seed):
    x = torch.randn(samples, features, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    x = x + x[:, :1]
    covariance = torch.cov(x.T)  # unbiased, and so must be the two variances that go in
    mean_variance = covariance.diagonal().mean()
    off_diagonal = (covariance.sum() - covariance.trace()) / (features * (features - 1))
    rho = theory.input_correlation(x.sum(1).var(), x.var(0).mean(), features)
    torch.testing.assert_close(rho, off_diagonal / mean_variance)


def test_input_correlation_needs_a_pair():
    assert math.isnan(theory.input_correlation(2.0, 2.0, 1))
    alone = theory.input_correlation(torch.ones(3), torch.ones(3), 1)
    assert alone.shape == (3,)
    assert alone.isnan().all()


@deterministic
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), seeds)
def test_squared_cosine_is_that_of_the_angle_to_all_ones(filters, channels, size, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(filters, channels, size, size, generator=generator, dtype=torch.double)
    flat = weight.reshape(filters, -1)
    cosine = F.cosine_similarity(flat, torch.ones_like(flat), dim=1)
    torch.testing.assert_close(squared_cosine(weight), cosine**2)
    assert fan_in(weight) == flat.shape[1] == channels * size * size
    torch.testing.assert_close(squared_cosine(torch.full_like(weight, -0.3)), torch.ones(filters).double())


def test_fan_in_counts_the_inputs_of_one_filter():
    assert fan_in(nn.Linear(7, 3).weight) == 7
    assert fan_in(nn.Conv2d(8, 12, (3, 5), groups=4).weight) == 2 * 3 * 5
    assert isinstance(fan_in(nn.Linear(7, 3).weight), int)
