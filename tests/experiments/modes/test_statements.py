"""Every statement's verdict on this torch, and its numbers against what is known without the experiment."""

import json
import math
from collections.abc import Callable, Mapping

import pytest
import torch

from experiments.modes import STATEMENTS, TOPICS
from experiments.modes.finding import NOT_KNOWN, Finding, judge, readable

# By number: the verdict to expect from torch's documentation, and what must hold of the numbers.
C, R, N = "confirmed", "refuted", "needs care"
Numbers = Mapping[str, list]


def near(value: float, expected: float, tolerance: float) -> bool:
    return abs(value - expected) <= tolerance


def close(values: list[float], expected: list[float], tolerance: float) -> bool:
    return all(near(value, known, tolerance) for value, known in zip(values, expected, strict=True))


# What ReLU makes of a standard normal variable has mean 1 / sqrt(2 pi) and mean square 1/2; dropout
# at 0.5 keeps the mean and doubles the mean square.
HALF_NORMAL_GAIN = (1 - 1 / (2 * math.pi)) / (1 / 2 - 1 / (2 * math.pi))
# What backward() needs of the image network for 64 images, float32, counted by hand: the input; BN's input; what
# ReLU put out, which the pooling shares; the pooling's indices (int64); the classifier's two inputs.
GRAPH = 4 * 64 * (64 + 2 * 256 * 64 + 4096 + 128) + 8 * 64 * 256 * 16

EXPECTED: dict[int, tuple[str, Callable[[Numbers], bool]]] = {
    1: (C, lambda m: close(m["zeroed_share_train_mode"], m["p"], 0.003)),
    2: (N, lambda m: near(m["survivors_factor"], 2, 1e-5)
         and near(m["variance_train_over_eval"], HALF_NORMAL_GAIN, 0.03)),
    3: (R, lambda m: near(m["kept_share_nn_dropout"], 0.8, 0.002) and near(m["kept_share_f_dropout"], 0.8, 0.002)),
    4: (C, lambda m: 0.01 < m["probability_std_train_mode"] < 0.2 and m["inputs_with_changing_class_percent"] > 5),
    5: (C, lambda m: m["train_mode_from_eval_mode"] > 1),
    6: (R, lambda m: near(m["output_mean"], 0, 0.02) and near(m["output_std"], 1, 0.02)),
    # 64 samples know a variance to sqrt(2 / 63); averaging with weights 0.1, 0.09 ... divides by sqrt(19).
    7: (
        R,
        lambda m: 0.5 * 100 * math.sqrt(2 / 63 / 19) < m["variance_gap_percent_by_momentum"][2] < 6
        # Of 100 batches of momentum 0.01 the initial value keeps a weight of 0.99^100, 37 %.
        and m["variance_gap_percent_by_momentum"][0] > 50
        and m["variance_gap_percent_by_momentum"][-1] < 1
        and m["variance_gap_percent_by_is_shuffled"][1] > 5 * m["variance_gap_percent_by_is_shuffled"][0]
        and m["variance_gap_percent_by_batch_size"][0] > 5 * m["variance_gap_percent_by_batch_size"][-1],
    ),
    8: (C, lambda m: m["stored_mean_moved_by_forward_without_gradients"] > 0.05),
    9: (R, lambda m: m["weights_moved"] == 0 and m["stored_mean_moved_std"] > 0.005),
    10: (C, lambda m: near(m["weight_of_new_batch_in_bn"], 0.1, 1e-6)),
    11: (C, lambda m: m["output_moved_without_tracking"] > 0.1 and m["output_moved_with_tracking"] == 0),
    12: (C, lambda m: (m["parameters_affine_true"], m["parameters_affine_false"]) == (512, 0)),
    # After 300 batches of momentum 0.1 the stored variance is 0.9^300.
    13: (C, lambda m: near(m["gain_at_test_after_constant_training"], (1e-5 + 0.9**300) ** -0.5, 0.5)),
    14: (C, lambda m: m["vector_error_train_mode_percent"][0] is None
         and m["vector_error_train_mode_percent"][1] > 20),
    15: (C, lambda m: m["error_of_a_after_train_mode_percent"] > m["error_of_a_after_eval_mode_percent"] + 3),
    16: (N, lambda m: "Expected more than 1 value per channel" in m["vector_train_mode"]
         and m["batch_sizes_of_65_samples_with_drop_last"] == [64]),
    17: (R, lambda m: m["weights_moved_by_step_eval_mode"] > 0),
    # In train mode BN keeps the batch's mean and standard deviation too, 2 * 256 floats.
    18: (C, lambda m: near(1e6 * m["graph_megabytes_eval_mode"], GRAPH, 1)
         and near(1e6 * m["graph_megabytes_train_mode"], GRAPH + 2048, 1)
         and m["graph_megabytes_eval_mode_no_grad"] == 0),
    19: (R, lambda m: m["training_afterwards"] is False and m["block_ran"] is False),
    20: (C, lambda m: m["logistic_regression_output_difference"] == 0),
    21: (C, lambda m: m["mc_dropout_probability_std"] > 0.005),
    22: (C, lambda m: m["variance_over_stored_eval_mode_before_bn"][0] < 0.5),
    23: (N, lambda m: m["shift_ratio_before_bn_0.5"][-1] < 0.05 and m["shift_ratio_before_weight_0.5"][-1] < 0.6),
    24: (C, lambda m: zero_to_one_agrees(m)),
    25: (N, lambda m: all(near(ratio, 0.47, 0.03) for ratio in m["local_ratio_by_width_before_bn"])),
    26: (C, lambda m: m["shift_ratio_bn_train_dropout_train"] == m["shift_ratio_bn_train_dropout_eval"] == 1
         and near(m["shift_ratio_bn_eval_dropout_train"], 1, 0.08)
         and m["shift_ratio_bn_eval_dropout_eval"] < 0.85),
}  # fmt: skip


def zero_to_one_agrees(m: Numbers) -> bool:
    """1 + r, r uniform on [0, 1], has mean 3/2 and variance 1/12: BN stores the variance
    S = v 9/4 + (c^2 + v) / 12, and the mean is off by c / 2. So the shift
    d = c / (2 sqrt(S)) fixes the ratio v / S = (1 - d^2 / 3) 3 / 7.
    """
    shift, ratio = m["mean_shift_in_stored_std"][-1], m["shift_ratio"][-1]
    symmetric = m["shift_ratio"][-2]  # beta = 1: at most 3 / (3 + beta^2), the paper's Eq 15
    return near(ratio, (1 - shift**2 / 3) * 3 / 7, 0.01) and 0.5 < symmetric < 0.76


@pytest.mark.parametrize("number", range(1, 27))
def test_verdict_and_numbers(number):
    statement = STATEMENTS[number - 1]
    assert statement.number == number
    state = torch.random.get_rng_state()
    finding = statement.test()
    assert torch.equal(torch.random.get_rng_state(), state)
    verdict, holds = EXPECTED[number]
    assert finding.verdict == verdict, finding
    assert holds(json.loads(json.dumps(finding.measured))), finding
    assert finding.explanation != NOT_KNOWN
    assert "\n" not in finding.explanation


@pytest.mark.parametrize("number", [1, 2, 5, 13, 15, 26])
def test_another_seed_changes_numbers_and_no_verdict(number):
    statement = STATEMENTS[number - 1]
    again, other = statement.test(), statement.test(seed=1)
    assert other.verdict == EXPECTED[number][0]
    if number != 13:  # nothing random in it
        assert again.measured != other.measured


@pytest.mark.parametrize("number", [1, 15])
def test_the_same_seed_gives_the_same_numbers(number):
    statement = STATEMENTS[number - 1]
    assert statement.test() == statement.test()


def test_statements_are_numbered_by_topic_and_said_in_one_line():
    assert [statement.number for statement in STATEMENTS] == list(range(1, 27))
    assert [len(experiments) for experiments in TOPICS.values()] == [4, 12, 5, 5]
    assert len({statement.text for statement in STATEMENTS}) == 26
    for statement in STATEMENTS:
        assert statement.text.endswith(".")
        assert "\n" not in statement.text
    assert STATEMENTS[16].text == "eval() stops the gradients: backward() has no effect in eval mode."
    assert STATEMENTS[16].name == "experiments.modes.autograd.eval_stops_gradients"


@pytest.mark.parametrize(
    ("holds", "misleads", "verdict", "explanation"),
    [
        (True, False, C, "yes"),
        (True, True, N, "but"),
        (False, True, R, NOT_KNOWN),
        (False, False, R, NOT_KNOWN),
    ],
)
def test_judge(holds, misleads, verdict, explanation):
    finding = judge({"a": 1}, holds=holds, misleads=misleads, confirmed="yes", needs_care="but")
    assert finding == Finding(verdict, explanation, {"a": 1})


def test_numbers_are_readable():
    measured = {"share_percent": 12.345678, "sizes": [1, 2.5, None], "is_on": True, "said": "no: 3_4"}
    assert readable(measured) == "share percent = 12.35; sizes = [1, 2.5, None]; is on = yes; said = no: 3_4"
