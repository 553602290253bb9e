"""The members that lists of placements, strengths and seeds make."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.theory import noise_variance
from experiments.checks import ConfigError
from experiments.members import Member, expand_members

NAMES = {"dropout": "rate", "uout": "beta", "gaussian": "std"}


def members(**spec: object) -> list[Member]:
    return expand_members({"seed": [0], "none": True} | spec, lr=0.1, weight_decay=5e-4)


def family(noise: str, strengths: object, placements: object = ("before_bn",)) -> dict:
    places = list(placements) if isinstance(placements, tuple) else placements
    return {noise: {NAMES[noise]: strengths, "placement": places}}


def error_line(**spec: object) -> str:
    with pytest.raises(ConfigError) as raised:
        members(**spec)
    return str(raised.value)


def test_every_combination_is_one_member():
    spec = family("dropout", [0.1, 0.5], ("before_bn", "after_last_bn")) | family("gaussian", [1, 2.5])
    expected = {
        Member(placement, noise, strength, seed, lr, decay)
        for (placement, noise, strength), seed, lr, decay in itertools.product(
            [
                ("none", "none", 0.0),
                ("before_bn", "dropout", 0.1),
                ("before_bn", "dropout", 0.5),
                ("after_last_bn", "dropout", 0.1),
                ("after_last_bn", "dropout", 0.5),
                ("before_bn", "gaussian", 1.0),
                ("before_bn", "gaussian", 2.5),
            ],
            [3, 4],
            [0.1, 0.2],
            [0.0, 0.01],
        )
    }
    made = members(**spec, seed=[3, 4], lr=[0.1, 0.2], weight_decay=[0, 0.01])
    assert len(made) == len(expected) == 7 * 2 * 2 * 2
    assert set(made) == expected
    assert all(type(member.strength) is float for member in made)


def test_the_baseline_comes_first_and_may_be_left_out():
    noisy = family("dropout", [0.5])
    first, second = members(**noisy)
    assert (first.placement, first.noise, first.strength) == ("none", "none", 0.0)
    assert members(**noisy, none=False) == [second]
    assert (first.lr, first.weight_decay) == (0.1, 5e-4)


@pytest.mark.parametrize("left_out", [{}, {"uout": None}, family("uout", None)])
def test_a_family_without_strengths_is_left_out(left_out):
    assert [member.noise for member in members(**left_out)] == ["none"]


@given(
    noise=st.sampled_from(sorted(NAMES)),
    strength=st.floats()
    | st.integers()
    | st.sampled_from([0, 1, 0.0, 1.0, math.nextafter(1, 0), 1e154, 1e155]),
)
def test_a_strength_is_accepted_where_the_theory_knows_its_variance(noise, strength):
    try:
        variance = noise_variance(noise, strength)
        known = abs(strength) < 2**63 if isinstance(strength, int) else math.isfinite(variance)
    except (ValueError, OverflowError):
        known = False
    if known:
        _, member = members(**family(noise, [strength]))
        assert member.strength == float(strength)
        assert member.noise_variance == pytest.approx(variance)
    else:
        assert error_line(**family(noise, [strength])).startswith(f"members.{noise}.{NAMES[noise]}=")


A_LIST = "allowed is a list of values, written"


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (family("dropout", [1]), "members.dropout.rate=1: allowed is a drop rate in [0, 1)"),
        (family("dropout", [0.1, "x"]), "members.dropout.rate=x: allowed is a drop rate in [0, 1)"),
        (family("dropout", [True]), "members.dropout.rate=true: allowed is a drop rate in [0, 1)"),
        (family("uout", [1.5]), "members.uout.beta=1.5: allowed is a beta in [0, 1]"),
        (family("gaussian", [-1]), "members.gaussian.std=-1: allowed is a standard deviation of at least 0"),
        (family("dropout", 0.5), f"members.dropout.rate=0.5: {A_LIST} 'members.dropout.rate=[0.5]'"),
        (family("dropout", "half"), f"members.dropout.rate=half: {A_LIST} 'members.dropout.rate=[...]'"),
        (family("dropout", []), "members.dropout.rate=[]: allowed is a list of at least one value"),
        (family("dropout", [0.5, 0.1, 0.5]), "members.dropout.rate=[0.5, 0.1, 0.5]: 0.5 is there twice"),
        (family("uout", [1, 1.0]), "members.uout.beta=[1, 1.0]: 1 is there twice"),
        (
            family("dropout", [0.5], ("after_bn",)),
            "members.dropout.placement=after_bn: allowed is one of before_bn",
        ),
        (
            family("dropout", [0.5], ["before_bn"] * 2),
            'members.dropout.placement=["before_bn", "before_bn"]: ',
        ),
        (
            family("dropout", [0.5], []),
            "members.dropout.placement=[]: allowed is a list of at least one value",
        ),
        (
            family("dropout", None, ("after_bn",)),
            "members.dropout.placement=after_bn: allowed is one of before_bn",
        ),
        ({"dropout": {"rate": [0.5]}}, "members.dropout.placement=null: allowed is a list"),
        ({"dropout": {"rates": [0.5]}}, "members.dropout.rates=[0.5]: no such key; did you mean"),
        ({"dropout": [0.5]}, "members.dropout=[0.5]: allowed is null (left out) or a section"),
        ({"droput": None}, "members.droput=null: no such key; did you mean members.dropout?"),
        ({"seed": []}, "members.seed=[]: allowed is a list of at least one value"),
        ({"seed": None}, "members.seed=null: allowed is a list"),
        ({"seed": [-1]}, "members.seed=-1: allowed is a whole number of at least 0"),
        ({"seed": [0, 1, 1]}, "members.seed=[0, 1, 1]: 1 is there twice"),
        ({"none": False}, "members.none=false: without a noise family no member is left"),
        ({"none": None}, "members.none=null: allowed is true or false"),
        ({"lr": [0]}, "members.lr=0: allowed is a number above 0"),
        ({"lr": []}, "members.lr=[]: allowed is a list of at least one value"),
        ({"weight_decay": [-0.1]}, "members.weight_decay=-0.1: allowed is a number of at least 0"),
    ],
    ids=str,
)
def test_bad_lists_are_answered_with_key_value_and_mend(spec, text):
    assert error_line(**spec).startswith(text)
