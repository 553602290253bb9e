"""Checked jobs: their names, what makes two of them the same, and the values that every section allows."""

import copy

import pytest

from experiments.checks import ConfigError, check_section, is_real, is_whole, null_or, one_of, shown
from experiments.settings.config import Job, make_job
from tests.experiments.small import RECIPE_SECTION

CONFIG = {
    "study": "test",
    "output": "outputs",
    "device": "cpu",
    "processes": "auto",
    "chunk": "auto",
    "data": {
        "name": "cifar10",
        "root": "data",
        "download": False,
        "train_size": 100,
        "test_size": None,
    },
    "model": {"name": "mlp", "width": 16, "depth": 3, "norm": "batch"},
    "recipe": RECIPE_SECTION | {"weight_decay": 0.0},
    "members": {
        "seed": [0, 1],
        "none": True,
        "dropout": {"rate": [0.5], "placement": ["before_bn"]},
        "uout": None,
        "gaussian": None,
        "lr": None,
        "weight_decay": None,
    },
    "measure": {"draws": 1},
}
MISSING = "(missing)"


def changed(**changes: object) -> dict:
    """CONFIG with dotted keys replaced, written with __ for the dots; MISSING takes a key out."""
    config = copy.deepcopy(CONFIG)
    for dotted, value in changes.items():
        *sections, key = dotted.split("__")
        section = config
        for name in sections:
            section = section[name]
        if value is MISSING:
            del section[key]
        else:
            section[key] = value
    return config


def job(**changes: object) -> Job:
    return make_job(changed(**changes))


def test_a_jobs_name_says_what_it_is():
    assert job().name.startswith("cifar10-mlp-width16-depth3-batch-")
    assert str(job().folder) == "outputs/test"


@pytest.mark.parametrize(
    "changes",
    [
        {"study": "other"},
        {"output": "/elsewhere"},
        {"device": "auto"},
        {"processes": 3},
        {"chunk": 5},
        {"data__root": "/elsewhere"},
        {"data__download": True},
        {"data__test_size": MISSING},
        {"recipe__weight_decay": 0},
        {"members__seed": [1, 0]},
        {"members__uout": MISSING},
        {"members__lr": [0.1]},
        {"members__gaussian": {"std": None, "placement": ["before_bn"]}},
    ],
    ids=str,
)
def test_what_does_not_change_the_results_does_not_change_the_name(changes):
    assert job(**changes).name == job().name


@pytest.mark.parametrize(
    "changes",
    [
        {"data__train_size": 101},
        {"data__name": "cifar100"},
        {"model__width": 17},
        {"model__depth": 2},
        {"recipe__epochs": 3},
        {"recipe__batch_size": 17},
        {"recipe__lr": 0.2},
        {"recipe__schedule": "constant"},
        {"recipe__momentum": 0.8},
        {"recipe__nesterov": False},
        {"recipe__weight_decay": 0.1},
        {"members__seed": [0, 2]},
        {"members__none": False},
        {"members__dropout": {"rate": [0.25], "placement": ["before_bn"]}},
        {"members__dropout": {"rate": [0.5], "placement": ["before_weight"]}},
        {"members__uout": {"beta": [0.5], "placement": ["before_bn"]}},
        {"members__lr": [0.1, 0.2]},
        {"measure__draws": 2},
    ],
    ids=str,
)
def test_what_changes_the_results_changes_the_name(changes):
    assert job(**changes).name != job().name


@pytest.mark.parametrize("key", [key for key in CONFIG if key != "members"])
def test_a_missing_key_is_named(key):
    with pytest.raises(ConfigError, match=rf"^({key} is missing|{key}\.name=null)"):
        make_job({name: value for name, value in CONFIG.items() if name != key})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"stduy": "x"}, "stduy=x: no such key; did you mean study?"),
        ({"recipe__epohcs": 3}, "recipe.epohcs=3: no such key; did you mean recipe.epochs?"),
        ({"recipe__epochs": True}, "recipe.epochs=true: allowed is a whole number of at least 1"),
        ({"recipe__epochs": 2**63}, "recipe.epochs=9223372036854775808: allowed is a whole number"),
        ({"recipe__lr": 10**400}, "recipe.lr=1000"),
        ({"recipe__lr": float("nan")}, "recipe.lr=nan: allowed is a number above 0"),
        ({"recipe__lr": "0.1"}, "recipe.lr=0.1: allowed is a number above 0"),
        ({"recipe__momentum": 1}, "recipe.momentum=1: allowed is a number in [0, 1)"),
        ({"recipe__momentum": 0.0}, "recipe.nesterov=true: allowed is false while recipe.momentum=0"),
        ({"recipe": [1]}, "recipe=[1]: allowed is a section"),
        ({"measure": "twice"}, "measure=twice: allowed is a section"),
        ({"members": {1: 2}}, "members.1=2: no such key"),
        ({"chunk": "many"}, "chunk=many: allowed is auto, or a whole number of at least 1"),
        ({"output": "a\0b"}, "output=a b: allowed is the path of a folder"),
    ],
    ids=str,
)
def test_a_bad_value_is_named_with_what_is_allowed(changes, text):
    with pytest.raises(ConfigError) as raised:
        job(**changes)
    assert str(raised.value).startswith(text)


def test_nesterov_may_be_off_without_momentum():
    assert job(recipe__momentum=0, recipe__nesterov=False).recipe.momentum == 0


def test_an_error_is_one_printable_line():
    assert str(ConfigError("a\nb\x1b[31m \t c\u202e")) == "a b [31m c"


def test_values_are_shown_as_the_configuration_writes_them():
    values = [None, True, [1, "a"], {"a": None}, "text", 0.5, float("inf"), 3]
    assert [shown(v) for v in values] == [
        "null",
        "true",
        '[1, "a"]',
        '{"a": null}',
        "text",
        "0.5",
        "inf",
        "3",
    ]
    assert len(shown("x" * 1000)) < 100


def test_numbers_are_what_a_table_can_hold():
    assert all(map(is_whole, [0, -5, 2**62]))
    assert not any(map(is_whole, [True, 1.0, "1", None, 2**63, 10**400, [1]]))
    assert all(map(is_real, [0, 1.5, -(2**62)]))
    assert not any(map(is_real, [False, "1", None, float("nan"), float("-inf"), 10**400]))


def test_a_key_that_may_be_null_may_be_missing():
    rules = {"a": one_of("x", "y"), "b": null_or(one_of("z"), "none")}
    assert check_section("s", {"a": "x"}, rules) == {"a": "x", "b": None}
    with pytest.raises(ConfigError, match=r"^s\.a is missing: allowed is one of x, y$"):
        check_section("s", {"b": "z"}, rules)
    with pytest.raises(ConfigError, match=r"^s\.b=q: allowed is null \(none\) or one of z$"):
        check_section("s", {"a": "x", "b": "q"}, rules)
