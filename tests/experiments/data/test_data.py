"""The sets that need no files, the settings of all of them, and what every `Data` keeps to."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from experiments.checks import ConfigError
from experiments.data import DATA_NAMES, check_data_config
from tests.experiments.small import loaded
from tests.places import CONF, ROOT

GAUSSIAN = {
    "name": "gaussian",
    "features": 8,
    "classes": 4,
    "mean": 0.5,
    "variance": 2.0,
    "correlation": 0.3,
    "train_size": 20_000,
    "test_size": 1_000,
    "seed": 0,
}
CIFAR = {"name": "cifar10", "root": "nowhere", "download": False, "train_size": None, "test_size": None}
CIFAR |= {"image_size": None}


def error_line(config) -> str:
    """The message of the ConfigError that `config` must raise, after checking that it is one line."""
    with pytest.raises(ConfigError) as raised:
        loaded(config)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_digits_are_scikit_learns():
    data = loaded({"name": "digits"})
    arrays = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(
        arrays.data, arrays.target, test_size=360, stratify=arrays.target, random_state=0
    )
    np.testing.assert_allclose(data.train_inputs, (train_x - np.mean(train_x)) / np.std(train_x), atol=1e-6)
    np.testing.assert_allclose(data.test_inputs, (test_x - np.mean(train_x)) / np.std(train_x), atol=1e-6)
    np.testing.assert_array_equal(data.train_labels, train_y)
    np.testing.assert_array_equal(data.test_labels, test_y)
    assert (data.name, data.classes, data.sample_shape) == ("digits", 10, (64,))
    assert data.train_inputs.dtype == torch.float32
    assert data.train_labels.dtype == torch.int64
    # Pixels keep means of their own: at the first layer the theory's c is not zero.
    assert data.train_inputs.mean(dim=0).abs().max() > 0.5


def test_digits_split_is_stratified_and_always_the_same():
    first, second = loaded({"name": "digits"}), loaded({"name": "digits"})
    assert torch.equal(first.train_inputs, second.train_inputs)
    share = first.train_labels.bincount() / (first.train_labels.bincount() + first.test_labels.bincount())
    np.testing.assert_allclose(share, 1437 / 1797, atol=0.005)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    features=st.integers(1, 12),
    mean=st.floats(-3, 3),
    variance=st.floats(0.01, 10),
    correlation=st.floats(0, 0.99),
    seed=st.integers(0, 2**63 - 1),
)
def test_gaussian_has_the_moments_it_is_asked_for(features, mean, variance, correlation, seed):
    wanted = {"features": features, "mean": mean, "variance": variance, "correlation": correlation}
    inputs = loaded(GAUSSIAN | wanted | {"seed": seed}).train_inputs.double()
    samples = len(inputs)
    of_sum = variance * features * (1 + (features - 1) * correlation)  # Var(sum_i x_i)
    # Five standard errors each; a normal sample's variance has the relative one of sqrt(2 / N).
    assert abs(inputs.mean() - mean) < 5 * np.sqrt(of_sum / samples) / features
    assert abs(inputs.var(dim=0).mean() / variance - 1) < 5 * np.sqrt(2 / samples)
    assert abs(inputs.sum(dim=1).var() / of_sum - 1) < 5 * np.sqrt(2 / samples)
    kurtosis = ((inputs[:, 0] - mean) ** 4).mean() / variance**2
    assert abs(kurtosis - 3) < 5 * np.sqrt(96 / samples)  # Var(z^4) = 96


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_gaussian_labels_are_balanced_and_learnable(correlation):
    data = loaded(GAUSSIAN | {"correlation": correlation})
    shares = data.train_labels.bincount(minlength=4) / len(data.train_labels)
    assert shares.min() > 0.1
    model = LogisticRegression(C=1e4, max_iter=1000).fit(data.train_inputs.numpy(), data.train_labels.numpy())
    assert model.score(data.test_inputs.numpy(), data.test_labels.numpy()) > 0.97


def test_gaussian_depends_on_its_seed_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = loaded(GAUSSIAN)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(loaded(GAUSSIAN).train_inputs, first.train_inputs)
    assert not torch.equal(loaded(GAUSSIAN | {"seed": 1}).train_inputs, first.train_inputs)
    assert not torch.equal(first.train_inputs[:1000], first.test_inputs)


def test_to_moves_every_tensor():
    data = loaded(GAUSSIAN).to("meta")
    tensors = (data.train_inputs, data.train_labels, data.test_inputs, data.test_labels)
    assert all(tensor.device.type == "meta" for tensor in tensors)
    assert (data.name, data.classes, data.sample_shape) == ("gaussian", 4, (8,))


def test_every_set_has_a_config_file_that_explains_each_key():
    assert {path.stem for path in (CONF / "data").glob("*.yaml")} == set(DATA_NAMES)
    for name in DATA_NAMES:
        first, *keys = (CONF / "data" / f"{name}.yaml").read_text().splitlines()
        assert first.startswith("# ")
        assert all(line.partition("  # ")[2] for line in keys)
        config = OmegaConf.to_container(OmegaConf.load(CONF / "data" / f"{name}.yaml"))
        own = {"target": "tests.experiments.own:load"} if name == "custom" else {}
        assert check_data_config(config | own).name == name


def test_the_root_of_the_config_files_follows_the_environment(monkeypatch):
    config = OmegaConf.load(CONF / "data" / "cifar10.yaml")
    monkeypatch.delenv("VARIANCE_SHIFT_DATA", raising=False)
    assert config.root == "data"
    monkeypatch.setenv("VARIANCE_SHIFT_DATA", "/elsewhere")
    assert check_data_config(config).options["root"] == "/elsewhere"


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        ({"name": "mnist"}, ["data.name=mnist", "digits", "cifar100"]),
        ({"name": ["digits"]}, ['data.name=["digits"]', "digits"]),
        ({}, ["data.name=null", "digits"]),
        (None, ["data.name=null", "digits"]),
        ({"name": "digits", "root": "x"}, ["data.root=x", "no such key", "known are data.name"]),
        (GAUSSIAN | {"rho": 0.1}, ["data.rho=0.1", "no such key", "data.correlation"]),
        (GAUSSIAN | {"clases": 3}, ["data.clases=3", "did you mean data.classes?"]),
        (
            {key: value for key, value in GAUSSIAN.items() if key != "seed"},
            ["data.seed is missing", "whole number"],
        ),
        (GAUSSIAN | {"variance": 0}, ["data.variance=0", "above 0"]),
        (GAUSSIAN | {"variance": float("inf")}, ["data.variance=inf", "a number above 0"]),
        (GAUSSIAN | {"mean": float("nan")}, ["data.mean=nan", "a number in [-1e+38, 1e+38]"]),
        (GAUSSIAN | {"mean": 10**400}, ["data.mean=1000", "a number in [-1e+38"]),
        (GAUSSIAN | {"mean": "a\nb"}, ["data.mean=a b", "a number in [-1e+38"]),
        (GAUSSIAN | {"correlation": 1}, ["data.correlation=1", "[0, 1)"]),
        (GAUSSIAN | {"correlation": -0.1}, ["data.correlation=-0.1", "[0, 1)"]),
        (GAUSSIAN | {"features": 0}, ["data.features=0", "at least 1"]),
        (GAUSSIAN | {"features": 2.0}, ["data.features=2.0", "whole number"]),
        (GAUSSIAN | {"classes": 1}, ["data.classes=1", "at least 2"]),
        (GAUSSIAN | {"train_size": None}, ["data.train_size=null", "at least 1"]),
        (GAUSSIAN | {"test_size": True}, ["data.test_size=true", "whole number"]),
        (GAUSSIAN | {"seed": -1}, ["data.seed=-1", "[0, 2^63)"]),
        (CIFAR | {"train_size": 0}, ["data.train_size=0", "null (all)", "at least 1"]),
        (CIFAR | {"download": "yes"}, ["data.download=yes", "true or false"]),
        (CIFAR | {"root": ""}, ["data.root=", "path of a folder"]),
        (CIFAR | {"root": None}, ["data.root=null", "path of a folder"]),
    ],
)
def test_a_bad_setting_is_named_with_what_is_allowed(config, parts):
    line = error_line(config)
    assert all(part in line for part in parts), line


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    key=st.sampled_from(sorted(set(GAUSSIAN) | set(CIFAR))),
    value=st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()),
    base=st.sampled_from([GAUSSIAN, CIFAR]),
)
def test_any_setting_is_accepted_unchanged_or_refused_in_one_line(key, value, base):
    config = base | {key: value}
    line = None
    try:
        assert check_data_config(config).section == {"validation": 0} | config
    except ConfigError as error:
        line = str(error)
    assert line is None or (line.startswith("data") and len(line.splitlines()) == 1)


def test_importing_the_package_leaves_heavy_libraries_alone():
    check = (
        "import sys, experiments.data; "
        "print([name for name in ('sklearn', 'rich', 'filelock') if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]", "imported at start, and slow"
