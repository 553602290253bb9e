"""The figures of interventions and controls: what is planted in tables is what they draw and say."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import cascade, learning_rate, matched_noise, normalisers, shift_cost, style, width_law
from analysis.schema import IDENTITY
from analysis.select import CannotAnswerError
from analysis.tables import Study
from tests.analysis import synthetic
from tests.analysis.planted import planted_costs


def study(**options) -> Study:
    return Study("synthetic", *synthetic.tables(**options))


def panel(figure: Figure, title: str) -> Axes:
    (axes,) = [axes for axes in figure.axes if axes.get_title() == title]
    return axes


def rows(table: pd.DataFrame, **wanted) -> pd.DataFrame:
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table


def quantity(points: pd.DataFrame, **wanted) -> pd.Series:
    return rows(points, **wanted)["mean"]


# --- what the shift costs


def planted(**plan) -> Study:
    members = planted_costs(**plan)
    return Study("planted", members, members.iloc[:0])


def test_shift_cost_draws_means_and_variances_gross_and_net():
    """Planted at rate 1: 6 points by wrong means, 2 by wrong variances, and 0.3 by means without noise too."""
    drawing = shift_cost.draw(planted(interaction=1.0, spread=0))
    axes, clean = drawing.figure.axes[:2]
    titles = ["width 16, noisy weights", "width 16, clean weights"]
    assert [axes.get_title(), clean.get_title()] == titles
    assert axes.get_ylabel().startswith("before_bn, dropout")
    rates = np.array([0.1, 0.3, 0.5, 0.7])
    drawn = {
        (line.get_color(), line.get_markerfacecolor()): np.asarray(line.get_ydata(), dtype=float)
        for line in axes.get_lines()
        if line.get_marker() == "o"
    }
    for colour, cost, every in (
        (shift_cost.MEANS, 6.5, 0.3),  # the interaction counts half to each
        (shift_cost.VARIANCES, 2.5, 0.0),
        (style.DARK, 9.0, 0.3),
    ):
        assert drawn[colour, colour] == pytest.approx(cost * rates + every)
        assert drawn[colour, "white"] == pytest.approx(cost * rates)
    twin = {line.get_color(): line.get_ydata() for line in clean.get_lines() if line.get_marker() == "o"}
    right = quantity(drawing.points, placement="before_bn", width=16, quantity="twin_shift").to_numpy()
    assert twin[style.DARK] == pytest.approx(right)


def test_shift_cost_says_points_and_no_share():
    drawing = shift_cost.draw(planted(interaction=1.0, spread=0))
    said = (
        "before_bn, drop rate 0.5, width 16: the shift costs +4.80 [+4.80, +4.80] (net +4.50 [+4.50, +4.50])"
    )
    assert said in drawing.finding
    assert "interaction +0.50" in drawing.finding
    for text in (drawing.finding, drawing.reading):
        assert "%" not in text.replace("95 %", "")
        assert "share" not in text


def test_shift_cost_decides_means_and_variances_by_the_margin():
    """Means planted to harm at every rate, variances to help at all but the least, where they cost 0.1 points."""
    finding = shift_cost.draw(planted(means=6.0, variances=-1.0, spread=0)).finding
    assert "told from 0 in 24 of 24 settings" in finding
    assert "the means: harms in 24; the variances: helps in 18, neither in 6." in finding


def test_shift_cost_says_where_there_is_nothing_to_explain():
    study = planted(means=0.0, variances=0.0, every=0.0, spread=0)
    frozen = study.members["test_error_frozen"] + np.random.default_rng(0).normal(0, 1, len(study.members))
    drawing = shift_cost.draw(Study("planted", study.members.assign(test_error_frozen=frozen), study.layers))
    totals = drawing.points[drawing.points["quantity"] == "total"]
    holds_0 = (totals["low"] <= 0) & (totals["high"] >= 0)
    assert holds_0.sum() > len(totals) / 2
    assert f"told from 0 in {(~holds_0).sum()} of {len(totals)} settings" in drawing.finding
    of_row = totals.assign(holds_0=holds_0).groupby("placement")["holds_0"]
    shown = totals[~of_row.transform("all")] if not holds_0.all() else totals
    bands = sum(len(axes.patches) for axes in drawing.figure.axes)
    assert bands == 2 * (holds_0[shown.index]).sum()  # in both panels, of noisy and of clean weights


def test_shift_cost_cuts_no_interval():
    drawing = shift_cost.draw(planted(seeds=range(2), means=90.0, variances=-40.0, spread=0.5))
    low, high = drawing.figure.axes[0].get_ylim()
    assert low < drawing.points["low"].min()
    assert high > drawing.points["high"].max() > 100


def test_shift_cost_of_one_seed_is_told_from_nothing():
    assert "no cost is told from 0" in shift_cost.draw(planted(seeds=range(1))).finding


def test_shift_cost_needs_interventions():
    members, layers = synthetic.tables(widths=(16,), seeds=(0, 1))
    without = members[[name for name in members if name in ("test_error", "test_error_adjusted", *IDENTITY)]]
    with pytest.raises(CannotAnswerError, match="no interventions"):
        shift_cost.draw(Study("before", without.drop(columns="test_error_adjusted"), layers))


# --- matched noise


def test_matched_noise_compares_only_equal_variances():
    drawing = matched_noise.draw(study())
    # Of the main study's strengths dropout and the Gaussian share all four, Uout only the one at 1/3.
    families = drawing.points.groupby("matched")["noise"].agg(set)
    assert families[0.11] == {"dropout", "gaussian"}
    assert set(drawing.points["noise"]) == {"dropout", "gaussian", "none"}


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
    assert set(points["network"]) == {"depth 2", "depth 6"}
    keys = ["placement", "network", "layer_index"]
    by = points.pivot(index=keys, columns="quantity", values="mean")
    assert (by["local_ratio"] * by["cascade"]).to_numpy() == pytest.approx(by["shift_ratio"].to_numpy())
    # The first layer of before_weight has no noise of its own: all of its shift comes from elsewhere.
    assert set(quantity(points, placement="before_weight", layer_index=1, quantity="local_ratio")) == {1.0}


def test_cascade_pools_no_widths_models_or_learning_rates():
    _, narrow = synthetic.tables(widths=(16, 64), noises=("dropout",))
    _, other = synthetic.tables(widths=(16,), noises=("dropout",), model="preresnet")
    layers = pd.concat([narrow.assign(lr=0.1), other.assign(lr=0.3)], ignore_index=True)
    drawing = cascade.draw(Study("networks", pd.DataFrame(), layers))
    assert set(drawing.points["network"]) == {"mlp, width 16", "mlp, width 64", "preresnet, width 16"}
    here = {"placement": "before_bn", "strength": 0.5, "layer_index": 3, "model": "mlp", "width": 64}
    expected = np.exp(np.log(rows(layers, **here)["shift_ratio"]).mean())
    at = {"placement": "before_bn", "network": "mlp, width 64", "layer_index": 3}
    assert quantity(drawing.points, **at, quantity="shift_ratio").item() == pytest.approx(expected)
    assert "mlp, width 16 0." in drawing.finding
    assert panel(drawing.figure, "before_weight, preresnet, width 16")
    rates = pd.concat([narrow.assign(lr=0.1), narrow.assign(lr=0.3)], ignore_index=True)
    networks = cascade.draw(Study("rates", pd.DataFrame(), rates)).points["network"]
    assert set(networks) == {f"width {width}, lr {lr}" for width in (16, 64) for lr in (0.1, 0.3)}


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
