"""Effects of interventions, from members whose errors are planted."""

import pandas as pd
import pytest

from analysis.interventions import EFFECTS, effects

TWIN = {
    "test_error": 3.0,
    "test_error_adjusted": 2.75,
    "test_error_frozen": 2.9,
    "test_error_means_right": 2.8,
    "test_error_variances_right": 2.85,
    "test_error_both_right": 2.7,
    "train_error_eval_mode": 1.0,
    "train_error_adjusted": 0.9,
}
NOISY = {
    "test_error": 10.0,
    "test_error_adjusted": 7.0,
    "test_error_frozen": 9.0,
    "test_error_means_right": 6.0,
    "test_error_variances_right": 8.5,
    "test_error_both_right": 6.5,
    "train_error_eval_mode": 6.0,
    "train_error_adjusted": 4.0,
    "test_error_coarse_variances": 6.75,
    "test_error_coarse_shift": 8.0,
    "test_error_coarse_means": 7.5,
    "test_error_coarse_random": 7.0,
    "test_error_twin_variances": 2.8,
    "test_error_twin_shift": 3.7,
    "test_error_twin_means": 3.2,
    "test_error_twin_random": 3.1,
}


def member(noise: str, errors: dict, **changed) -> dict:
    placement = "none" if noise == "none" else "before_bn"
    network = {"data": "digits", "model": "mlp", "width": 16, "depth": None, "norm": "batch"}
    kind = {
        "placement": placement,
        "noise": noise,
        "strength": 0.5 * (noise != "none"),
        "noise_variance": 1.0,
    }
    return network | kind | {"seed": 0, "lr": 0.1, "weight_decay": 0.0} | errors | changed


def test_effects_of_means_and_variances_are_those_of_the_two_by_two_design():
    found = effects(pd.DataFrame([member("none", TWIN), member("dropout", NOISY)])).iloc[0]
    assert found["means"] == pytest.approx(((9 - 6) + (8.5 - 6.5)) / 2)
    assert found["variances"] == pytest.approx(((9 - 8.5) + (6 - 6.5)) / 2)
    assert found["interaction"] == pytest.approx((9 - 6) - (8.5 - 6.5))
    assert found["total"] == pytest.approx(found["means"] + found["variances"])
    assert (found["stale"], found["removal"], found["stored"]) == (1, 3, 2)
    assert found["gap"] == 7


def test_net_is_less_the_same_of_the_noise_free_twin():
    found = effects(pd.DataFrame([member("none", TWIN), member("dropout", NOISY)])).iloc[0]
    assert found["means_net"] == pytest.approx(found["means"] - ((2.9 - 2.8) + (2.85 - 2.7)) / 2)
    assert found["variances_net"] == pytest.approx(found["variances"] - ((2.9 - 2.85) + (2.8 - 2.7)) / 2)
    assert found["total_net"] == pytest.approx(2.5 - 0.2)
    assert found["removal_net"] == pytest.approx(3 - 0.25)
    assert found["stored_net"] == pytest.approx(2 - 0.1)


def test_transplants_cost_what_they_add_to_the_twin_with_both_right_and_coarse_ones_to_the_network_itself():
    found = effects(pd.DataFrame([member("none", TWIN), member("dropout", NOISY)])).iloc[0]
    twin = [found[f"twin_{key}"] for key in ("variances", "shift", "means", "random")]
    own = [found[f"coarse_{key}"] for key in ("variances", "shift", "means", "random")]
    assert twin == pytest.approx([0.1, 1.0, 0.5, 0.4])
    assert own == pytest.approx([0.25, 1.5, 1.0, 0.5])


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"width": 64}, {"lr": 0.3}, {"weight_decay": 1e-4}, {"depth": 2}]
)
def test_a_network_of_another_seed_shape_or_recipe_is_no_twin(other):
    found = effects(pd.DataFrame([member("none", TWIN, **other), member("dropout", NOISY)])).iloc[0]
    assert found["means"] == 2.5
    assert found[["gap", "means_net", "twin_shift"]].isna().all()


def test_what_a_study_has_not_measured_is_empty():
    """A study of an older version, and networks without BN: one row a noisy member all the same."""
    bare = [member("none", {"test_error": 3.0}), member("dropout", {"test_error": 4.0})]
    found = effects(pd.DataFrame(bare))
    assert len(found) == 1
    assert found["gap"].item() == 1
    assert found[[name for name in EFFECTS if name != "gap"]].isna().all(axis=None)
    assert list(effects(pd.DataFrame(bare[:1])).columns) == list(found.columns)
