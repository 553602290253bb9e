"""Keyword arguments of `run_study` arrive as the values that they are."""

from pathlib import Path

import numpy as np
import pytest

from experiments.checks import ConfigError
from experiments.settings.keywords import overrides_of
from tests.experiments.command_line import plan


@pytest.mark.parametrize(
    ("keys", "overrides"),
    [
        ({"study": "w"}, ["study=w"]),
        ({"study": "null"}, ["study='null'"]),
        ({"study": "12"}, ["study='12'"]),
        ({"study": "it's a, b"}, [r"study='it\'s a, b'"]),
        ({"output": Path("a/b")}, ["output=a/b"]),
        ({"sweep": "width", "data": "gaussian"}, ["+sweep=width", "data=gaussian"]),
        ({"model": {"width": 8, "norm": "none"}}, ["model.width=8", "model.norm=none"]),
        ({"members": {"dropout": {"rate": (0.1, 0.5)}}}, ["members.dropout.rate=[0.1,0.5]"]),
        ({"members": {"dropout.rate": [0.1], "uout": None}}, ["members.dropout.rate=[0.1]", "members.uout=null"]),
        ({"members": {"seed": range(3)}}, ["members.seed=[0,1,2]"]),
        ({"members": {"seed": np.arange(2), "none": np.True_}}, ["members.seed=[0,1]", "members.none=true"]),
        ({"recipe": {"lr": np.float64(1e-5), "nesterov": False}}, ["recipe.lr=1e-05", "recipe.nesterov=false"]),
    ],
)  # fmt: skip
def test_a_value_is_written_as_hydra_reads_it(keys, overrides):
    assert list(overrides_of(keys)) == overrides


@pytest.mark.parametrize("name", ["it's", "a b", "12", "null", "True", "1e5", "a-b", "+x"])
def test_a_text_stays_the_text_that_it_is(name):
    if name == "it's":  # no name of a folder
        with pytest.raises(ConfigError, match="study=it's: allowed is the name of a folder"):
            plan(*overrides_of({"study": name}))
    else:
        assert plan(*overrides_of({"study": name})).jobs[0].study == name


@pytest.mark.parametrize("value", [{1}, object, [{"a": 1}], b"x"])
def test_what_can_be_no_value_is_refused_in_a_line(value):
    with pytest.raises(ConfigError, match=r"^model.width=.*: allowed is a number, a text"):
        list(overrides_of({"model": {"width": value}}))
