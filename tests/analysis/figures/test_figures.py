"""What is drawn equals what a few lines of pandas find in the tables."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection, LineCollection
from matplotlib.figure import Figure

from analysis import paper
from analysis.figures import (
    cascade,
    collapse,
    core,
    error_vs_rate,
    paper_error,
    predicted,
    shift_per_layer,
    shift_vs_rate,
    style,
    width,
)
from analysis.figures.curves import ratio_curve
from analysis.select import CannotAnswerError
from analysis.stats import mean_interval
from analysis.tables import Study
from tests.analysis import synthetic


@pytest.fixture(scope="module")
def study() -> Study:
    return Study("synthetic", *synthetic.tables())


def rows(table: pd.DataFrame, **wanted) -> pd.DataFrame:
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table


def panel(figure: Figure, title: str) -> Axes:
    (axes,) = [axes for axes in figure.axes if axes.get_title() == title]
    return axes


def heights(axes: Axes, *, marker: str, face: str | None = None, line: str | None = None) -> list[np.ndarray]:
    """The y values of every drawn series with this marker (and face colour, and line style)."""
    return [
        np.asarray(series.get_ydata(), dtype=float)
        for series in axes.get_lines()
        if series.get_marker() == marker
        and (face is None or series.get_markerfacecolor() == face)
        and (line is None or series.get_linestyle() == line)
    ]


def bars(axes: Axes) -> np.ndarray:
    """Low and high end of every drawn interval, [bars, 2]."""
    return np.array([segment[:, 1] for bundle in axes.collections for segment in bundle.get_segments()])


# --- the core picture


@pytest.mark.parametrize(
    ("column", "name", "style"),
    [
        ("shift_ratio_predicted", "closure, all noise", "-."),
        ("ratio_paper", "the paper's Eq 8 or 12, own noise", ":"),
    ],
)
def test_the_core_picture_names_a_theory_where_it_is_drawn(study, column, name, style):
    without = Study("without", study.members, study.layers.assign(**{column: np.nan}))
    for of_study, is_there in ((study, True), (without, False)):
        figure = core.draw(of_study).figure
        (legend,) = figure.legends
        assert (name in [text.get_text() for text in legend.get_texts()]) == is_there
        lines = [line for axes in figure.axes for line in axes.get_lines() if line.get_linestyle() == style]
        assert any(len(np.asarray(line.get_ydata())) for line in lines) == is_there


# --- figure 1


def test_shift_vs_rate_draws_the_means_with_their_intervals(study):
    axes = panel(shift_vs_rate.draw(study).figure, "before_bn, width 64")
    here = rows(study.layers, noise="dropout", placement="before_bn", width=64)
    for quantity, face in [("local_ratio", style.PLACEMENT_COLOUR["before_bn"]), ("shift_ratio", "white")]:
        (drawn,) = heights(axes, marker="o", face=face)
        assert drawn == pytest.approx(here.groupby("strength")[quantity].mean().to_numpy())
    seeds = here.groupby(["strength", "seed"])["local_ratio"].mean()
    expected = [mean_interval(seeds[rate])[1:3] for rate in (0.1, 0.3, 0.5, 0.7)]
    assert bars(axes)[4:8] == pytest.approx(np.array(expected))


def test_shift_vs_rate_draws_the_closure_of_the_deepest_layer_over_what_that_layer_shows(study):
    drawing = shift_vs_rate.draw(study)
    axes = panel(drawing.figure, "before_weight, width 64")
    here = rows(study.layers, noise="dropout", placement="before_weight", width=64, layer_index=3)
    shown = here.groupby("strength")[["shift_ratio", "shift_ratio_predicted"]].mean()
    (diamonds,) = heights(axes, marker="D")
    assert diamonds == pytest.approx(shown["shift_ratio"].to_numpy())
    (curve,) = [line for line in axes.get_lines() if line.get_linestyle() == "-."]
    at = np.interp([0.1, 0.3, 0.5, 0.7], np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata()))
    assert at == pytest.approx(shown["shift_ratio_predicted"].to_numpy(), abs=2e-3)
    assert "closure" in drawing.reading


@pytest.mark.parametrize("is_there", [True, False], ids=["empty", "no column"])
def test_shift_vs_rate_without_a_prediction_is_as_it_was(study, is_there):
    bare = study.layers.drop(columns="shift_ratio_predicted")
    layers = bare.assign(shift_ratio_predicted=np.nan) if is_there else bare
    drawing = shift_vs_rate.draw(Study("bare", study.members, layers))
    axes = panel(drawing.figure, "before_bn, width 64")
    assert not heights(axes, marker="D")
    assert {line.get_linestyle() for line in axes.get_lines()}.isdisjoint({"-."})
    assert "closure" not in drawing.reading


def test_shift_vs_rate_averages_only_layers_behind_noise(study):
    axes = panel(shift_vs_rate.draw(study).figure, "before_weight, width 16")
    here = rows(study.layers, noise="dropout", placement="before_weight", width=16)
    (drawn,) = heights(axes, marker="o", face="white")
    behind = here[here["layer_index"] > 1]
    assert drawn == pytest.approx(behind.groupby("strength")["shift_ratio"].mean().to_numpy())


def test_shift_vs_rate_curves(study):
    figure = shift_vs_rate.draw(study).figure
    nominal, exact, eq_8 = panel(figure, "before_bn, width 256").get_lines()[:3]
    rates = np.asarray(nominal.get_xdata())
    assert nominal.get_ydata() == pytest.approx(1 - rates)  # Eq 8 with c = 0 is the keep probability
    here = rows(study.layers, noise="dropout", placement="before_bn", width=256)
    for curve, quantity in [(exact, "local_ratio_exact"), (eq_8, "ratio_paper")]:
        at = np.interp([0.0, 0.1, 0.3, 0.5, 0.7], rates, curve.get_ydata())
        assert at == pytest.approx([1, *here.groupby("strength")[quantity].mean()], abs=1e-3)
    after = panel(figure, "after_last_bn, width 256").get_lines()[0]
    assert set(after.get_ydata()) == {1.0}


def test_a_curve_at_constant_moments_is_eq_8():
    variance = np.array([0.1, 1.0, 4.0])
    moments = pd.DataFrame({"noise_variance": variance, "mean": 1 / (1 + 1.4 * variance)})
    at = np.array([0.0, 0.5, 2.0, 9.0])
    assert ratio_curve(moments, at) == pytest.approx(1 / (1 + 1.4 * at))


# --- figure 2


def test_collapse_draws_layers_at_equal_moments_and_means_at_equal_variance(study):
    figure = collapse.draw(study).figure
    here = rows(study.layers, noise="uout", placement="before_weight")
    here = here[here["layer_index"] > 1]
    of_layers = here.groupby(["width", "strength", "layer_index"])[
        ["local_ratio", "local_ratio_exact"]
    ].mean()
    top = panel(figure, "local shift at its gain: an identity, before_weight")
    (series,) = [line for line in top.get_lines() if line.get_marker() == style_of("uout")]
    assert np.sort(series.get_ydata()) == pytest.approx(np.sort(of_layers["local_ratio"]))
    assert np.sort(series.get_xdata()) == pytest.approx(np.sort(1 / of_layers["local_ratio_exact"] - 1))
    for title, quantity in [("local shift", "local_ratio"), ("cumulative shift", "shift_ratio")]:
        (drawn,) = heights(panel(figure, f"{title}, before_weight"), marker=style_of("uout"))
        assert np.sort(drawn) == pytest.approx(np.sort(here.groupby(["width", "strength"])[quantity].mean()))


def test_collapse_says_what_is_an_identity_and_where_equal_variance_is_not_enough():
    """Planted: families agree in every layer's local shift, and in the cumulative one of all but one layer."""
    members, layers = synthetic.tables(
        widths=(64,), placements=("before_bn",), noises=("dropout", "gaussian")
    )
    ratio = 1 / (1 + layers["noise_variance"].round(1))
    layers["shift_ratio"] = ratio
    layers["local_ratio"] = layers["local_ratio_exact"] = ratio.where(layers["noise"] != "none")
    agreeing = collapse.draw(Study("agree", members, layers))
    assert "identity" in agreeing.reading
    assert "Monte Carlo error" in agreeing.finding
    assert "cumulative ones do not" not in agreeing.finding
    odd = (layers["noise"] == "gaussian") & (layers["strength"] == 1.528) & (layers["layer_index"] == 3)
    layers.loc[odd, "shift_ratio"] = 0.088
    said = (
        "In before_bn, width 64, BN layer 3, σ² 2.33, local shifts agree (dropout 0.303, gaussian 0.303) and"
    )
    finding = collapse.draw(Study("apart", members, layers)).finding
    assert f"{said} cumulative ones do not (0.303, 0.088)." in finding


def style_of(noise: str) -> str:
    return collapse.LOOK[noise]["marker"]


def test_family_differences_find_a_planted_one_and_no_other():
    _, layers = synthetic.tables(widths=(64,), placements=("before_bn",))
    layers.loc[layers["noise"] == "gaussian", "local_ratio"] -= 0.1
    differences = collapse.family_differences(layers[layers["noise"] != "none"], "local_ratio")
    assert set(differences["first"] + differences["second"]) == {
        "dropoutgaussian"
    }  # uout has no equal variance
    assert len(differences) == 4
    assert differences["mean"].to_numpy() == pytest.approx(0.1, abs=0.03)
    assert (differences["low"] > 0).all()
    assert (differences["n"] == 5).all()


# --- figure 3


def test_shift_per_layer_draws_magnitudes(study):
    axes = panel(shift_per_layer.draw(study).figure, "before_weight, width 64")
    here = rows(study.layers, noise="dropout", placement="before_weight", width=64)
    cumulative = heights(axes, marker="o", line="-")
    local = heights(axes, marker="o", line=":")
    exact = heights(axes, marker="x")
    for place, rate in enumerate([0.1, 0.3, 0.5, 0.7]):
        of_layer = rows(here, strength=rate).groupby("layer_index")
        assert cumulative[place] == pytest.approx(of_layer["shift_magnitude"].mean().to_numpy())
        inverse = (1 / here["local_ratio"])[here["strength"] == rate].groupby(here["layer_index"]).mean()
        assert local[place] == pytest.approx(inverse.dropna().to_numpy())  # all below 1: magnitude = inverse
        assert exact[place] == pytest.approx(inverse.dropna().to_numpy(), rel=0.02)


def test_shift_per_layer_draws_the_predicted_cumulative_curve(study):
    drawing = shift_per_layer.draw(study)
    drawn = heights(panel(drawing.figure, "before_bn, width 64"), marker="+", line="--")
    here = rows(study.layers, noise="dropout", placement="before_bn", width=64)
    for place, rate in enumerate([0.1, 0.3, 0.5, 0.7]):
        of_rate = rows(here, strength=rate)
        magnitude = np.maximum(of_rate["shift_ratio_predicted"], 1 / of_rate["shift_ratio_predicted"])
        of_layer = magnitude.groupby(of_rate["layer_index"]).mean()
        assert drawn[place] == pytest.approx(of_layer.to_numpy())
    assert "closure predicts" in drawing.reading
    old = Study("old", study.members, study.layers.drop(columns=["shift_ratio_predicted"]))
    assert "closure" not in shift_per_layer.draw(old).reading


def test_shift_per_layer_has_a_panel_of_mean_shifts(study):
    drawing = shift_per_layer.draw(study)
    axes = panel(drawing.figure, "before_weight, width 64: means")
    here = rows(study.layers, noise="dropout", placement="before_weight", width=64)
    stored = heights(axes, marker="o", line="-")
    frozen = heights(axes, marker="o", line=":")
    without = rows(study.layers, noise="none", width=64).groupby("layer_index")["mean_shift"].mean()
    assert stored[0] == pytest.approx(without.to_numpy())
    for place, rate in enumerate([0.1, 0.3, 0.5, 0.7]):
        of_layer = (
            rows(here, strength=rate).groupby("layer_index")[["mean_shift", "mean_shift_frozen"]].mean()
        )
        assert stored[place + 1] == pytest.approx(of_layer["mean_shift"].to_numpy())
        assert frozen[place] == pytest.approx(of_layer["mean_shift_frozen"].to_numpy())
    deepest = rows(study.layers, noise="dropout", placement="before_bn", strength=0.5, layer_index=3)
    said = (
        f"Deepest layer's mean shift: before_bn {mean_interval(deepest.groupby('seed')['mean_shift'].mean())}"
    )
    assert said in drawing.finding
    old = Study("old", study.members, study.layers.drop(columns=["mean_shift", "mean_shift_frozen"]))
    titles = [axes.get_title() for axes in shift_per_layer.draw(old).figure.axes]
    assert titles
    assert not [title for title in titles if title.endswith("means")]


@pytest.mark.parametrize("seeds", [2, 3])
def test_of_a_deep_network_there_are_lines_and_from_three_seeds_on_bands(seeds):
    """Marks and bars of so many layers hide each other, and so does the interval of two seeds."""
    tables = synthetic.tables(
        widths=(16,), seeds=range(seeds), noises=("dropout",), depth=style.FEW_LAYERS + 1
    )
    study = Study("deep", *tables)
    drawing = shift_per_layer.draw(study)
    axes = panel(drawing.figure, "before_weight, width 16")
    points = rows(drawing.points, placement="before_weight", width=16)
    assert not heights(axes, marker="o")
    for name, line in (("shift_ratio", "-"), ("local_ratio", ":")):
        of_strength = rows(points, quantity=name).groupby("strength")["mean"]
        drawn = heights(axes, marker="None", line=line)
        for (_, means), heights_drawn in zip(of_strength, drawn, strict=True):
            assert heights_drawn == pytest.approx(means.to_numpy())
    assert not [one for one in axes.collections if isinstance(one, LineCollection)]
    bands = [one for one in axes.collections if isinstance(one, FillBetweenPolyCollection)]
    assert len(bands) == (8 if seeds == 3 else 0)
    assert "bands are the intervals" in drawing.reading
    product = cascade.draw(study)
    (axes,) = [
        axes for axes in product.figure.axes if axes.get_title() == "before_weight, depth 41, width 16"
    ]
    (local,) = [line for line in axes.get_lines() if line.get_linestyle() == ":"]
    assert max(np.asarray(local.get_ydata(), dtype=float)) < 1
    assert len(axes.collections) == (3 if seeds == 3 else 0)
    few = shift_per_layer.draw(Study("few", *synthetic.tables(widths=(16,), seeds=[0, 1], depth=3)))
    assert len(bars(panel(few.figure, "before_weight, width 16")))
    assert "bands are" not in few.reading


def test_shift_per_layer_shows_every_published_layer_and_marks_the_clipped(study):
    figure = shift_per_layer.draw(study).figure
    published = rows(paper.figure4(), placement="before_bn")
    published = published[published["drop_ratio"] > 0]
    axes = panel(figure, "before_bn, the paper")
    clipped = published["read_from"] == "clipped_at_top"
    assert sum(len(drawn) for drawn in heights(axes, marker="^")) == clipped.sum() > 0
    dots = np.concatenate(heights(axes, marker="o"))
    assert np.sort(dots) == pytest.approx(np.sort(published["shift_magnitude"][~clipped]))
    (sentence,) = panel(figure, "after_last_bn, the paper").texts
    assert "shows no" in sentence.get_text()


def test_shift_per_layer_leaves_the_paper_out_where_it_does_not_compare():
    gaussian = Study("synthetic", *synthetic.tables(widths=(16,), seeds=(0, 1), noises=("gaussian",)))
    drawing = shift_per_layer.draw(gaussian)
    assert len(drawing.figure.axes) == 4
    assert "paper" not in drawing.reading


# --- figure 4


def test_predicted_keeps_the_formulas_and_placements_apart(study):
    """Eq 8 and Eq 12 have a median each, of the ratio and of what noise adds."""
    drawing = predicted.draw(study)
    for title, column, placements in [
        ("exact law: checks the code", "local_ratio_exact", ["before_bn", "before_weight"]),
        ("the paper's Eq 8", "ratio_paper", ["before_bn"]),
        ("the paper's Eq 12", "ratio_paper", ["before_weight"]),
    ]:
        axes = panel(drawing.figure, title)
        texts = []
        for placement in placements:
            here = rows(study.layers, placement=placement).dropna(subset=["local_ratio"])
            error = (here["local_ratio"] / here[column] - 1).abs().median()
            added = ((1 / here["local_ratio"] - 1) / (1 / here[column] - 1) - 1).abs().median()
            assert f"{placement} {100 * error:.2g} %, what noise adds {100 * added:.2g} %" in drawing.finding
            medians = [f"ratio {100 * error:.2g} %", f"added {100 * added:.2g} %"]
            texts.append([placement, f"{len(here)} BN layers", "median |error|", *medians])
        assert [said.get_text().splitlines() for said in axes.texts] == texts
        drawn = np.concatenate(heights(axes, marker="o"))
        of_formula = study.layers[study.layers["placement"].isin(placements)]["local_ratio"].dropna()
        assert np.sort(drawn) == pytest.approx(np.sort(of_formula))


def test_predicted_draws_dots_of_as_many_seeds_as_can_be_told_apart(study, monkeypatch):
    everything = predicted.draw(study)
    assert "Dots are of" not in everything.reading
    seeds = everything.points["seed"].nunique()
    of_seed = everything.points.groupby(["formula", "seed"]).size().max()
    monkeypatch.setattr(predicted, "DOTS", int(2.5 * of_seed))
    fewer = predicted.draw(study)
    assert list(fewer.points["seed"].unique()) == [0, 1]
    assert f"Dots are of 2 of {seeds} seeds, medians of all." in fewer.reading
    assert fewer.finding == everything.finding
    monkeypatch.setattr(predicted, "DOTS", 1)
    assert list(predicted.draw(study).points["seed"].unique()) == [0]


def test_predicted_has_the_cumulative_shift_of_layers_behind_the_first(study):
    drawing = predicted.draw(study)
    drawn = np.concatenate(heights(panel(drawing.figure, "closure: cumulative"), marker="o"))
    layers = study.layers[(study.layers["layer_index"] > 1) & (study.layers["noise"] != "none")]
    measured = layers["shift_ratio_population"]
    assert np.sort(drawn) == pytest.approx(np.sort(measured[np.log(measured).abs() > 0.1]))
    # The planted predictions are off by 1 %.
    (said,) = [part for part in drawing.finding.split("; ") if part.startswith("closure")]
    assert said.startswith("closure: before_bn 1 %")
    old = Study("old", study.members, study.layers.drop(columns=["shift_ratio_predicted"]))
    assert "closure" not in predicted.draw(old).finding


def test_predicted_sees_an_error_of_what_weak_noise_adds():
    """Noise that adds 0.4 %, of which half is predicted: 0.2 % of the ratio, and 100 % of what was to be found."""
    members, layers = synthetic.tables(widths=(16,), placements=("before_bn",))
    off = layers.assign(local_ratio=1 / 1.004, local_ratio_exact=1 / 1.004, ratio_paper=1 / 1.002)
    off = off[off["noise"] != "none"]
    assert (
        "Eq 8: before_bn 0.2 %, what noise adds 1e+02 %" in predicted.draw(Study("off", members, off)).finding
    )


def test_predicted_without_the_papers_formula_shows_the_exact_law_alone():
    members, layers = synthetic.tables(widths=(16,), seeds=(0,))
    lacking = layers.assign(ratio_paper=np.nan, shift_ratio_predicted=np.nan)
    drawing = predicted.draw(Study("shortcuts", members, lacking))
    assert len(drawing.figure.axes) == 2
    assert "Eq 12" not in drawing.finding


# --- figure 5


def test_width_draws_means_against_width(study):
    figure = width.draw(study).figure
    here = rows(study.layers, noise="dropout", placement="before_weight", strength=0.5)
    titles = {"local shift": "local_ratio", "Eq 12: what width acts through": "d_cos2"}
    for title, quantity in titles.items():
        drawn = heights(panel(figure, title), marker="o")[2]  # the third rate
        assert drawn == pytest.approx(here.groupby("width")[quantity].mean().to_numpy())


def test_width_needs_two_widths_and_the_placement():
    one = Study("one", *synthetic.tables(widths=(16,), seeds=(0, 1)))
    with pytest.raises(CannotAnswerError, match=r"one width only \(16\)"):
        width.draw(one)
    none = Study("none", *synthetic.tables(seeds=(0,), placements=("before_bn",)))
    with pytest.raises(CannotAnswerError, match="no BN layer of a finished before_weight member"):
        width.draw(none)


# --- figure 6


def test_error_vs_rate_draws_errors_over_the_baseline(study):
    axes = panel(error_vs_rate.draw(study).figure, "dropout, width 64")
    here = rows(study.members, noise="dropout", placement="after_last_bn", width=64)
    colour = style.PLACEMENT_COLOUR["after_last_bn"]
    trained, adjusted = (
        np.asarray(line.get_ydata())
        for line in axes.get_lines()
        if line.get_marker() == "o" and line.get_color() == colour
    )
    assert trained == pytest.approx(here.groupby("strength")["test_error"].mean().to_numpy())
    assert adjusted == pytest.approx(here.groupby("strength")["test_error_adjusted"].mean().to_numpy())
    baseline = rows(study.members, noise="none", width=64)["test_error"]
    assert axes.get_lines()[0].get_ydata() == pytest.approx([baseline.mean()] * 2)
    (band,) = axes.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx(mean_interval(baseline)[1:3])


def test_error_vs_rate_speaks_of_every_family_and_of_the_extremes(study):
    """Planted: adjusting BN wins back 9 points under strong Gaussian noise and loses 1 under strong dropout."""
    members = study.members.assign(test_error=3.0, test_error_adjusted=3.0)
    at = (members["placement"] == "before_bn") & (members["width"] == 64)
    members.loc[at & (members["noise"] == "gaussian") & (members["strength"] == 1.528), "test_error"] = 12.0
    members.loc[at & (members["noise"] == "dropout") & (members["strength"] == 0.7), "test_error"] = 2.0
    finding = error_vs_rate.draw(Study("planted", members, study.layers)).finding
    assert (
        "before_bn, Gaussian std 1.528: noise +3.00 [+3.00, +3.00], adjustment -3.00 [-3.00, -3.00]"
        in finding
    )
    assert "before_weight, Uout beta 0.5: noise +0.00" in finding
    assert (
        "Adjusting BN wins back most in before_bn, Gaussian std 1.528, width 64 (12.0 to 3.0 %) and loses most in "
        "before_bn, drop rate 0.7, width 64 (2.0 to 3.0 %)."
    ) in finding


def test_error_vs_rate_copes_with_no_error_at_all():
    members, layers = synthetic.tables(widths=(16,), seeds=(0, 1))
    perfect = Study("perfect", members.assign(test_error=0.0, test_error_adjusted=0.0), layers)
    drawing = error_vs_rate.draw(perfect)
    drawing.figure.draw_without_rendering()
    heights = np.concatenate([line.get_ydata() for axes in drawing.figure.axes for line in axes.get_lines()])
    assert heights.size
    assert not heights[np.isfinite(heights)].any()
    assert np.isfinite([axes.get_ylim() for axes in drawing.figure.axes]).all()


def test_paper_error_shows_the_printed_numbers():
    axes = panel(paper_error.draw().figure, "CIFAR100, DenseNet-BC-100-12")
    by_placement = {
        placement: [line for line in axes.get_lines() if line.get_color() == colour]
        for placement, colour in style.PLACEMENT_COLOUR.items()
    }
    before_bn, adjusted = (np.asarray(line.get_ydata()) for line in by_placement["before_bn"][:2])
    assert before_bn[2] == pytest.approx(31.45, abs=0.005)  # Table 3
    assert adjusted == pytest.approx([26.98])  # Table 3
    assert by_placement["after_last_bn"][0].get_ydata() == pytest.approx(
        [21.86, 22.41, 22.41, 23.49]
    )  # Table 4
    assert by_placement["before_weight"][2].get_ydata() == pytest.approx(
        [22.39, 22.57, 22.35, 22.30]
    )  # Table 6
    assert axes.get_lines()[0].get_ydata() == pytest.approx([22.58, 22.58])  # Table 4
