"""The figures of interventions and controls: what is planted in tables is what they draw and say."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.error_shares import error_shares
from analysis.figures import cascade, learning_rate, matched_noise, normalisers, transplant, width_law
from analysis.select import CannotAnswerError
from analysis.tables import Study
from tests.analysis import synthetic
from tests.analysis.planted import planted_shares


def study(**options) -> Study:
    return Study("synthetic", *synthetic.tables(**options))


def panel(figure: Figure, title: str) -> Axes:
    (axes,) = [axes for axes in figure.axes if axes.get_title() == title]
    return axes


def quantity(points: pd.DataFrame, **wanted) -> pd.Series:
    for column, value in wanted.items():
        points = points[points[column] == value]
    return points["mean"]


# --- transplant


def test_transplant_draws_the_shares():
    members = planted_shares(transplant=0.25, removal=0.4)
    drawing = transplant.draw(Study("planted", members, members.iloc[:0]))
    bars = panel(drawing.figure, "before_bn, width 16").patches
    heights = [
        bar.get_extents().transformed(bar.axes.transData.inverted()).height for bar in bars if bar.axes
    ]
    assert heights == pytest.approx([25] * 4 + [40] * 4)
    assert "transplant 25 % [25, 25], removal 40 % [40, 40]" in drawing.finding


def test_transplant_says_where_there_is_nothing_to_explain():
    members = planted_shares(seeds=range(3))
    noisy = members["noise"] != "none"
    members.loc[noisy, "test_error"] = 3 + np.random.default_rng(0).normal(0, 3, noisy.sum())
    drawing = transplant.draw(Study("planted", members, members.iloc[:0]))
    known = error_shares(members).query("quantity == 'transplant'")["share"].notna().sum()
    texts = [text for axes in drawing.figure.axes for text in axes.texts if "no clear" in text.get_text()]
    assert len(texts) == 24 - known


def test_transplant_needs_transplants():
    members, layers = synthetic.tables()
    without = Study("before", members.assign(test_error_transplanted=np.nan), layers)
    with pytest.raises(CannotAnswerError, match="test_error_transplanted is empty"):
        transplant.draw(without)


# --- matched noise


def test_matched_noise_compares_only_equal_variances():
    drawing = matched_noise.draw(study())
    # Of the main study's strengths dropout and the Gaussian share all four, Uout only the one at 1/3.
    families = drawing.points.groupby("matched")["noise"].agg(set)
    assert families[0.11] == {"dropout", "gaussian"}
    assert set(drawing.points["noise"]) == {"dropout", "gaussian"}


def test_matched_noise_finds_a_planted_difference():
    members, layers = synthetic.tables(noises=("dropout", "gaussian"), widths=(64,))
    members["test_error"] = 2 + 0.1 * members["seed"] + 0.5 * (members["noise"] == "gaussian")
    finding = matched_noise.draw(Study("planted", members, layers)).finding
    assert "test error +0.500 [+0.500, +0.500] points (8 of 8 cases differ)" in finding


def test_matched_noise_needs_two_families():
    with pytest.raises(CannotAnswerError, match="that two noise families share"):
        matched_noise.draw(study(noises=("dropout",)))


# --- normalisers


def by_norm(**options) -> Study:
    tables = [synthetic.tables(norm=norm, widths=(16,), **options) for norm in ("batch", "group")]
    members, layers = (pd.concat(kind, ignore_index=True) for kind in zip(*tables, strict=True))
    noisy = members["noise"] != "none"
    worse = members["norm"] == "batch"
    members["train_error_train_mode"] = 4.0
    members["train_error_eval_mode"] = 4.0 + noisy * np.where(worse, 3.0, -1.0)
    members["test_error"] = 2.0 + noisy * np.where(worse, 5.0, 1.5)
    return Study("norms", members, layers)


def test_normalisers_draw_the_difference_of_the_modes_and_the_cost():
    points = normalisers.draw(by_norm(noises=("dropout",))).points
    assert set(quantity(points, norm="batch", quantity="mode")) == {3.0}
    assert set(quantity(points, norm="group", quantity="mode")) == {-1.0}
    assert set(quantity(points, norm="batch", quantity="gap")) == {5.0}
    assert set(quantity(points, norm="group", quantity="gap")) == {1.5}


def test_normalisers_need_two():
    with pytest.raises(CannotAnswerError, match="one normalisation only"):
        normalisers.draw(study())


# --- cascade


def test_cascade_is_what_local_leaves():
    layers = pd.concat(
        [synthetic.tables(depth=depth, widths=(32,))[1] for depth in (2, 6)], ignore_index=True
    )
    points = cascade.draw(Study("depths", pd.DataFrame(), layers)).points
    assert set(points["depth"]) == {2, 6}
    keys = ["placement", "depth", "layer_index"]
    by = points.pivot(index=keys, columns="quantity", values="mean")
    assert (by["local_ratio"] * by["cascade"]).to_numpy() == pytest.approx(by["shift_ratio"].to_numpy())
    # The first layer of before_weight has no noise of its own: all of its shift comes from elsewhere.
    assert set(quantity(points, placement="before_weight", layer_index=1, quantity="local_ratio")) == {1.0}


def test_cascade_leaves_out_dead_layers():
    _, layers = synthetic.tables(widths=(32,))
    layers.loc[layers["layer_index"] == 3, "shift_ratio"] = 0.0
    points = cascade.draw(Study("dead", pd.DataFrame(), layers)).points
    assert set(points["layer_index"]) == {1, 2}


# --- width


def test_width_law_moves_one_term_at_a_time():
    """Layers in which only the fan-in grows: that line is Eq 12 itself, all others stay level."""
    rows = []
    for width in (8, 32, 128):
        terms = {"input_mean": 0.4, "input_var": 0.3, "input_corr": 0.1, "fan_in": width, "cos2": 0.2}
        added = 0.3 * 0.1 * (0.2 * width - 1)
        ratio = (0.3 + added) / (0.3 + 1.0 * (0.4**2 + 0.3) + added)  # Eq 12 at noise variance 1
        for seed in (0, 1):
            rows.append(
                {"placement": "before_weight", "noise": "dropout", "strength": 0.5, "noise_variance": 1.0}
                | {"width": width, "seed": seed, "layer_index": 2, "local_ratio": ratio}
                | {"local_ratio_exact": ratio, **terms}
            )
    points = width_law.draw(Study("law", pd.DataFrame(), pd.DataFrame(rows))).points
    expected = quantity(points, quantity="local_ratio").to_numpy()
    for name in ("all", "only_fan_in"):
        assert quantity(points, quantity=name).to_numpy() == pytest.approx(expected)
    for name in ("only_cos2", "only_input_corr", "only_moments"):
        assert quantity(points, quantity=name).to_numpy() == pytest.approx([expected[0]] * 3)


def test_width_law_needs_three_widths():
    with pytest.raises(CannotAnswerError, match="of 2 widths; a law needs 3"):
        width_law.draw(study(widths=(16, 64)))


# --- learning rate


def by_rate() -> Study:
    """Noisy networks do best at 0.1, others at 0.3 on validation; test error would choose otherwise."""
    tables = []
    for lr in (0.1, 0.3):
        members, layers = synthetic.tables(widths=(16,), noises=("dropout",))
        best = np.where(members["noise"] == "none", lr == 0.3, lr == 0.1)
        members["validation_error"] = np.where(best, 5.0, 9.0) + 0.1 * members["seed"]
        members["test_error"] = np.where(best, 7.0, 1.0)
        tables.append((members.assign(lr=lr), layers.assign(lr=lr)))
    return Study("rates", *(pd.concat(kind, ignore_index=True) for kind in zip(*tables, strict=True)))


def test_learning_rate_is_chosen_without_test_data():
    drawing = learning_rate.draw(by_rate())
    tested = drawing.points[drawing.points["quantity"] == "test_error"]
    assert set(tested["mean"]) == {7.0}
    assert dict(zip(tested["placement"], tested["lr"], strict=True))["none"] == 0.3
    assert set(tested.loc[tested["placement"] != "none", "lr"]) == {0.1}
    assert "Without noise the best rate is 0.3 (width 16)" in drawing.finding


def test_learning_rate_needs_several_and_a_validation_part():
    with pytest.raises(CannotAnswerError, match="one learning rate only"):
        learning_rate.draw(study())
    rates = by_rate()
    blind = Study("blind", rates.members.drop(columns="validation_error"), rates.layers)
    with pytest.raises(CannotAnswerError, match="no validation part"):
        learning_rate.draw(blind)
