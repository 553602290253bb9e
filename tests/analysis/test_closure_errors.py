"""The closure's errors, against numbers worked out by hand."""

import math

import pandas as pd
import pytest

from analysis.closure_errors import closure_errors, quality


def layer(seed: int, index: int, measured: float, predicted: float, local: float | None, **more) -> dict:
    row = {"data": "digits", "seed": seed, "placement": "before_bn", "layer_index": index}
    row |= {"shift_ratio": 2 * measured, "shift_ratio_frozen": measured, "shift_ratio_population": measured}
    row |= {"shift_ratio_predicted": predicted, "local_ratio_exact": local}
    return row | {"mean_shift_population": 0.01, "mean_shift_predicted": 0.0} | more


LAYERS = pd.DataFrame(
    [
        layer(0, 1, 0.5, 0.1, 0.5),  # the first: never judged
        layer(0, 2, 0.5, 0.5 * math.exp(0.01), 0.4, mean_shift_population=0.1, mean_shift_predicted=0.12),
        layer(0, 3, 0.5, 0.5 * math.exp(-0.03), 0.6),
        layer(0, 4, 0.95, 0.90, 0.94),  # shifts too little
        layer(1, 2, 0.5, 0.5 * math.exp(0.1), 0.4, mean_shift_population=0.2, mean_shift_predicted=0.2),
        layer(1, 3, 0.8, 0.8, None),  # without noise of its own: its local ratio is 1
        layer(2, 2, 0.5, math.nan, 0.4),  # no prediction
    ]
)


def test_the_numbers_are_those_worked_out_by_hand():
    (found,) = quality(closure_errors(LAYERS)).to_dict("records")
    assert (found["networks"], found["layers"], found["signs"], found["mean_shifts"]) == (2, 4, 4, 2)
    assert found["median"] == pytest.approx((2 + 5) / 2)  # network 0: 1 and 3; network 1: 10 and 0
    assert found["ninth_decile"] == pytest.approx(3 + 0.7 * 7)  # of 0, 1, 3, 10
    assert found["bias"] == pytest.approx((1 - 3 + 10 + 0) / 4)
    local = [math.log(0.4 / 0.5), math.log(0.6 / 0.5), math.log(0.4 / 0.5), math.log(1 / 0.8)]
    assert found["median_local"] == pytest.approx(100 * (abs(local[0]) + abs(local[1])) / 2, abs=1.5)
    squares = 0.01**2 + 0.03**2 + 0.1**2
    assert found["skill"] == pytest.approx(1 - squares / sum(e * e for e in local))
    assert found["sign"] == 1
    assert found["mean_shift_error"] == pytest.approx((20 + 0) / 2)
    assert found["mean_shift_slope"] == pytest.approx((0.1 * 0.12 + 0.2 * 0.2) / (0.1**2 + 0.2**2))


def test_the_local_law_itself_has_no_skill_and_its_opposite_no_sign():
    local = closure_errors(LAYERS.assign(shift_ratio_predicted=LAYERS["local_ratio_exact"].fillna(1.0)))
    assert quality(local)["skill"].tolist() == [0]
    opposite = LAYERS["local_ratio_exact"] ** 2 / LAYERS["shift_ratio_population"]
    assert quality(closure_errors(LAYERS.assign(shift_ratio_predicted=opposite)))["sign"].tolist() == [0]


def test_another_target_has_its_own_errors():
    (found,) = quality(closure_errors(LAYERS, "moving")).to_dict("records")
    assert found["bias"] < -40  # the moving ratio is twice the population's


def test_a_row_for_each_group_and_nan_where_nothing_is_judged():
    rows = closure_errors(LAYERS)
    by_two = quality(rows, ["data", "seed"])
    assert by_two[["seed", "layers"]].to_numpy().tolist() == [[0, 2], [1, 2]]
    assert quality(rows, ["seed"])["median"].tolist() == pytest.approx([2, 5])
    (nothing,) = quality(rows[rows["shift_ratio_population"] > 0.9]).to_dict("records")
    assert nothing["layers"] == 0
    assert all(math.isnan(nothing[name]) for name in ("median", "skill", "mean_shift_slope"))
