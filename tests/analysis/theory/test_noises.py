"""The noise families: each law as a quadrature, the factor that a draw makes, and answers to unknown names."""

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from analysis import theory
from analysis.audit import AuditError, MultiplicativeNoise
from analysis.theory.noises import DROPOUT, FAMILIES, GAUSSIAN, NO_NOISE, UOUT, family, standard_normal
from experiments.members import Member
from experiments.training.noise import SiteNoise
from tests.analysis.theory.noisy_layers import (
    SAMPLES,
    deterministic,
    draw_noise,
    seeds,
    strengths,
    tolerance_of,
)
from tests.places import ROOT

Z = 4.0  # standard errors that a mean over draws may be off


def test_families_are_known_by_name_and_frozen():
    assert list(FAMILIES) == ["dropout", "uout", "gaussian"]
    assert all(family(name) is noise for name, noise in FAMILIES.items())
    assert family("none") is NO_NOISE
    with pytest.raises(dataclasses.FrozenInstanceError):
        DROPOUT.name = "bernoulli"


# --- the factor's law


@given(strengths, st.integers(2, 40))
def test_the_law_has_the_moments_of_the_factor(noise_and_strength, nodes):
    name, strength = noise_and_strength
    points, weights = family(name).law(strength, nodes)
    variance = theory.noise_variance(name, strength)
    assert weights.sum() == pytest.approx(1)
    assert weights @ points == pytest.approx(1)
    assert weights @ (points - 1) ** 2 == pytest.approx(variance, rel=1e-9, abs=1e-12)
    assert (weights >= 0).all()


def test_the_baseline_has_one_point():
    points, weights = NO_NOISE.law(0)
    assert points.tolist() == weights.tolist() == [1]


def test_the_law_of_dropout_is_its_two_points():
    points, weights = DROPOUT.law(0.2)
    assert points.tolist() == [0, 1.25]
    assert weights.tolist() == [0.2, 0.8]


@given(st.floats(0.05, 1), st.floats(0.05, 2))
def test_higher_moments_are_those_of_the_closed_forms(beta, std):
    points, weights = UOUT.law(beta)
    for power in range(0, 12, 2):  # uniform on [-beta, beta]
        assert weights @ (points - 1) ** power == pytest.approx(beta**power / (power + 1))
        assert weights @ (points - 1) ** (power + 1) == pytest.approx(0, abs=1e-12)
    points, weights = GAUSSIAN.law(std)
    for power in range(0, 12, 2):  # std^k (k - 1)!!
        assert weights @ (points - 1) ** power == pytest.approx(std**power * math.prod(range(1, power, 2)))
    # E exp(m) of a smooth function that is no polynomial
    assert weights @ np.exp(points) == pytest.approx(math.exp(1 + std**2 / 2))


@deterministic
@given(strengths, seeds)
def test_means_over_the_law_are_those_over_draws(noise_and_strength, seed):
    name, strength = noise_and_strength
    generator = torch.Generator().manual_seed(seed)
    m = draw_noise(name, strength, (SAMPLES,), generator).double().numpy()
    points, weights = family(name).law(strength)
    for function in (
        np.cos,
        lambda m: np.logaddexp(0, 2 * m),
    ):  # as smooth as a ReLU behind a spread of inputs
        drawn = function(m)
        tolerance = Z * drawn.std() / math.sqrt(SAMPLES) + 1e-4
        assert weights @ function(points) == pytest.approx(drawn.mean(), abs=tolerance)


# --- variance and strength


@given(st.sampled_from(sorted(FAMILIES)), st.floats(0, 1))
def test_the_strength_for_a_variance_has_that_variance(name, share):
    noise = FAMILIES[name]
    variance = share * min(noise.largest_variance, 9.0)
    assert noise.noise_variance(noise.strength_for(variance)) == pytest.approx(variance, rel=1e-9, abs=1e-300)


def test_labels():
    assert DROPOUT.label(0.5) == "dropout 0.5"
    assert GAUSSIAN.label(1.0) == "gaussian 1"
    assert NO_NOISE.label(0.0) == "no noise"


# --- the factor of a draw


@deterministic
@given(strengths, seeds)
def test_a_factor_is_the_formula_of_its_uniform_draw(noise_and_strength, seed):
    name, strength = noise_and_strength
    u = torch.rand(SAMPLES, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    u.clamp_(min=2.0**-25)  # where the normal tail ends, so that u = 0 is finite
    expected = {
        "dropout": lambda: (u >= strength).double() / (1 - strength),
        "uout": lambda: 1 + strength * (2 * u - 1),
        "gaussian": lambda: 1 + strength * torch.special.ndtri(u),
    }[name]()
    m = family(name).factor(u, strength)
    torch.testing.assert_close(m, expected)
    assert m.mean().item() == pytest.approx(1, abs=0.01)
    assert m.var().item() == pytest.approx(theory.noise_variance(name, strength), rel=tolerance_of(m))


def test_the_baseline_factor_is_one():
    assert NO_NOISE.factor(torch.rand(9), 0.0).eq(1).all()
    assert NO_NOISE.factor_numbers(0.0) == (1, 0, 0, 0)


def test_factor_numbers():
    assert DROPOUT.factor_numbers(0.2) == (0, 0, 0.2, 1.25)
    assert UOUT.factor_numbers(0.25) == (0.75, 0.5, 0, 0)
    assert GAUSSIAN.factor_numbers(1.5) == (1, 1.5, 0, 0)


def test_normal_is_finite_at_the_ends_of_the_draw():
    u = torch.tensor([0.0, 2**-24, 0.5, 1 - 2**-24])
    ends = standard_normal(u)
    assert ends.isfinite().all()
    assert ends.tolist() == sorted(ends.tolist())
    assert ends[2].item() == pytest.approx(0, abs=1e-6)
    assert u.tolist() == [0.0, 2**-24, 0.5, 1 - 2**-24]  # as it was


# --- what is not allowed


@pytest.mark.parametrize("name", ["bernoulli", "Dropout", "", "no noise"])
@pytest.mark.parametrize(
    "ask",
    [
        family,
        lambda name: theory.noise_variance(name, 0.5),
        lambda name: theory.strength_for(name, 0.5),
        lambda name: Member("before_bn", name, 0.5, 0, 0.1, 0.0).noise_variance,
        lambda name: site(name, "before_bn", 0.5),
        lambda name: site(name, "before_weight", 0.5),
        lambda name: site(name, "before_bn", 0.0),
        lambda name: MultiplicativeNoise(name, 0.1),
    ],
)
def test_an_unknown_family_is_an_error_wherever_it_is_asked_for(ask, name):
    with pytest.raises((ValueError, AuditError), match="allowed") as error:
        ask(name)
    assert "uout" in str(error.value)
    assert "\n" not in str(error.value)


def site(name: str, placement: str, strength: float) -> SiteNoise:
    member = Member(placement, name, strength, 0, 0.1, 0.0)
    return SiteNoise("a.site", "before_bn", (6,), [member], torch.device("cpu"))


@pytest.mark.parametrize("ask", ["noise_variance", "law", "factor_numbers"])
@pytest.mark.parametrize(
    ("name", "strength"),
    [("dropout", 1.0), ("dropout", math.nan), ("uout", 1.01), ("gaussian", -0.1), ("none", 0.1)],
)
def test_a_strength_out_of_range_is_an_error_wherever_it_is_asked_for(ask, name, strength):
    with pytest.raises(ValueError, match=f"'{name}' is {strength}; allowed: "):
        getattr(family(name), ask)(strength)


def test_one_node_is_no_law():
    with pytest.raises(ValueError, match="nodes is 1; allowed: at least 2"):
        UOUT.law(0.5, nodes=1)


def test_theory_of_noise_imports_neither_torch_nor_numpy():
    code = (
        "import sys, analysis.theory, analysis.schema; print({'torch', 'numpy', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "set()\n"
