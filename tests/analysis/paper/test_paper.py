"""The published tables: whole, in the project's words, consistent, and saying what we say they say."""

import numpy as np
import pandas as pd
import pytest

from analysis import paper
from analysis.paper import findings

NETWORKS = ["PreResNet-110", "ResNeXt-29-8x64", "WRN-28-10", "DenseNet-BC-100-12"]
BN_LAYERS = dict(zip(NETWORKS, [163, 31, 25, 99], strict=True))


# --- the tables themselves


@pytest.mark.parametrize(
    "table", [paper.paper_values(), paper.figure1(), paper.figure4(), paper.figure5(), paper.error_rates()]
)
def test_words_are_the_projects(table):
    text = table.select_dtypes(exclude="number")
    words = set(text.drop(columns="uncertainty", errors="ignore").astype(str).to_numpy().ravel())
    assert not words & {"dropout_a", "dropout_b", "bernoulli", "uniform", "uout_b", "bottleneck(dropout_a?)"}
    own = table[table["source_version"] == "arxiv_v1"] if "source_version" in table else table
    assert set(own["placement"]) <= {"none", "before_bn", "before_weight", "after_last_bn"}
    if "noise" in own:
        assert set(own["noise"]) <= {"none", "dropout", "uout"}
        assert ((own["placement"] == "none") == (own["noise"] == "none")).all()


def test_paper_values_is_whole():
    values = paper.paper_values()
    assert len(values) == 622
    assert values["value"].notna().all()
    own = values[values["source_version"] == "arxiv_v1"]
    assert own.groupby("table_or_figure").size()[[f"Table {n}" for n in range(1, 7)]].tolist() == [
        16, 8, 32, 40, 12, 40,
    ]  # fmt: skip
    uout = values[values["noise"] == "uout"].groupby("table_or_figure")["placement"].unique()
    assert uout["Table 6"].tolist() == ["before_weight"]
    assert uout["Eq 15 text"].tolist() == ["before_bn"]


def test_figure4_has_every_bn_layer_of_every_panel():
    panels = paper.figure4().groupby(["dataset", "network", "placement", "drop_ratio"])["bn_layer_index"]
    assert len(panels) == 2 * 4 * 2 * 5
    for (_, network, _, _), indices in panels:
        assert sorted(indices) == list(range(BN_LAYERS[network]))
    assert set(paper.figure4()["placement"]) == {"before_bn", "before_weight"}
    assert (paper.figure4()["shift_magnitude"] >= 1).all()


def test_figure4_mean_magnitude_reproduces_the_published_digits():
    means = paper.figure4_mean_magnitude()
    assert len(means) == 80
    assert means["clipped"].sum() == (paper.figure4()["read_from"] == "clipped_at_top").sum() == 67
    at_half = means[means["drop_ratio"] == 0.5].groupby("placement")["mean_magnitude"].agg(["min", "max"])
    assert at_half.loc["before_bn"].tolist() == pytest.approx([1.37, 1.59], abs=0.005)
    assert at_half.loc["before_weight"].tolist() == pytest.approx([1.02, 1.06], abs=0.005)
    one = means.query("dataset == 'CIFAR10' and network == 'PreResNet-110' and placement == 'before_bn'")
    assert one["clipped"].tolist() == [0, 0, 0, 0, 24]
    assert one["mean_magnitude"].tolist() == pytest.approx([1.0043, 1.0444, 1.1616, 1.4013, 1.8234], abs=5e-5)


def test_figure1_and_figure5():
    assert paper.figure1().groupby("drop_ratio").size().tolist() == [99, 99]
    curves = paper.figure5()
    assert set(curves["mode"]) == {"train_mode", "eval_mode"}
    last = curves[curves["epoch"] == curves.groupby("network")["epoch"].transform("max")]
    last = last.set_index(["dataset", "network", "drop_ratio", "mode"])["accuracy_pct"]
    assert last["CIFAR100", "DenseNet-BC-100-12", 0.5, "train_mode"] == pytest.approx(94.79, abs=0.05)
    assert last["CIFAR100", "DenseNet-BC-100-12", 0.5, "eval_mode"] == pytest.approx(77.41, abs=0.05)


def test_error_rates():
    errors = paper.error_rates()
    sizes = errors.groupby("table").size().to_dict()
    assert sizes == {"Figure 4": 80, "Table 3": 32, "Table 4": 40, "Table 5": 12, "Table 6": 40}
    key = [
        "table",
        "dataset",
        "network",
        "placement",
        "noise",
        "strength",
        "adjusted",
        "metric",
        "baseline_of",
    ]
    assert not errors.duplicated(key).any()
    assert errors.drop(columns="baseline_of").notna().all(axis=None)
    cell = errors.query("table == 'Table 3' and dataset == 'CIFAR10' and network == 'PreResNet-110'")
    cell = cell.set_index(["placement", "adjusted"])["error"].to_dict()
    assert cell == {
        ("before_bn", False): 8.42,
        ("before_bn", True): 6.42,
        ("before_weight", False): 5.85,
        ("before_weight", True): 5.77,
    }


def test_what_a_caller_changes_stays_with_the_caller():
    mine = paper.figure4()
    mine["shift_magnitude"] = 0
    assert (paper.figure4()["shift_magnitude"] > 0).all()


# --- digitised figures against printed tables


def test_means_of_figure_3_reproduce_table_1():
    cos2 = paper.figure3().query("quantity == 'cos2'").groupby(["dataset", "network"])["value"].mean()
    printed = paper.paper_values().query("table_or_figure == 'Table 1' and quantity == 'mean_cos2'")
    printed = printed.set_index(["dataset", "network"])["value"]
    agree = (cos2.round(5) - printed).abs() < 1e-9
    assert (agree.sum(), len(agree)) == (8, 8)


def truncated(values: pd.Series) -> pd.Series:
    """To two digits, as the tables print them; a bar is digitised to 0.0005."""
    return np.floor((values + 0.0005) * 100).round() / 100


def test_bars_of_figure_4_reproduce_table_3():
    errors = paper.error_rates()
    cell = ["dataset", "network", "placement"]
    bars = errors.query("table == 'Figure 4' and strength == 0.5").set_index(cell)["error"]
    printed = errors.query("table == 'Table 3' and not adjusted").set_index(cell)["error"]
    agree = (truncated(bars) - printed).abs() < 1e-9
    assert (agree.sum(), len(agree)) == (16, 16)


@pytest.mark.parametrize("table", ["Table 4", "Table 6"])
def test_baselines_of_the_tables_pool_the_runs_of_both_columns_of_figure_4(table):
    errors = paper.error_rates().query("placement == 'none'")
    bars = errors[errors["table"] == "Figure 4"]
    pooled = (bars["error"] * bars["runs"]).groupby([bars["dataset"], bars["network"]]).sum() / 8
    printed = errors[errors["table"] == table].set_index(["dataset", "network"])["error"]
    agree = (truncated(pooled) - printed).abs() < 1e-9
    assert (agree.sum(), len(agree)) == (8, 8)


# --- the findings


def test_runs_behind_the_bars():
    runs = findings.runs_behind_bars().set_index("placement")
    assert runs.loc["before_bn", ["bars", "multiples_of_3"]].tolist() == [40, 40]
    assert runs.loc["before_weight", ["bars", "multiples_of_5"]].tolist() == [40, 36]
    assert runs.loc["before_weight", "multiples_of_3"] < 20  # so it is not that any number would do


def test_noise_of_a_single_run():
    sd = findings.single_run_sd()
    assert sd["CIFAR10"] == pytest.approx(0.17, abs=0.005)
    assert sd["CIFAR100"] == pytest.approx(0.32, abs=0.005)


def test_61_of_64_cells_cannot_be_told_from_their_baseline():
    share = findings.noise_floor_share()
    assert (share["within_noise"].sum(), share["cells"].sum()) == (61, 64)
    outside = findings.cells_against_noise_floor().query("not within_noise")
    assert set(
        zip(outside["table"], outside["dataset"], outside["network"], outside["strength"], strict=True)
    ) == {
        ("Table 4", "CIFAR100", "DenseNet-BC-100-12", 0.1),
        ("Table 4", "CIFAR100", "DenseNet-BC-100-12", 0.5),
        ("Table 4", "CIFAR100", "ResNeXt-29-8x64", 0.5),
    }


def test_loss_recovered_by_adjustment():
    recovered = findings.loss_recovered_by_adjustment().set_index(["placement", "dataset", "network"])[
        "recovered"
    ]
    before_bn = recovered["before_bn"]
    assert len(before_bn) == 8
    assert [before_bn.min(), before_bn.max()] == pytest.approx([0.20, 0.71], abs=0.005)
    before_weight = recovered["before_weight"]
    small = [
        before_weight["CIFAR10", "PreResNet-110"],
        before_weight["CIFAR100", "PreResNet-110"],
        before_weight["CIFAR100", "ResNeXt-29-8x64"],
    ]
    assert [min(small), max(small)] == pytest.approx([0.10, 0.17], abs=0.005)
    # By hand from Tables 3 and 4: (32.45 - 26.57) / (32.45 - 23.73)
    assert before_bn["CIFAR100", "PreResNet-110"] == pytest.approx(5.88 / 8.72)
    assert before_weight.isna().sum() == 1  # WRN on CIFAR10, where dropout cost nothing
    assert np.isnan(before_weight["CIFAR10", "WRN-28-10"])


def test_widest_is_not_least_shifted():
    order = findings.width_ordering()
    assert len(order) == 2 * 4 * 4
    heavy = order[order["drop_ratio"].isin([0.5, 0.7])].set_index("network")
    assert set(heavy.loc["ResNeXt-29-8x64", "rank_d_cos2"]) == {2}
    assert set(heavy.loc["ResNeXt-29-8x64", "rank_magnitude"]) == {1}
    assert set(heavy.loc["WRN-28-10", "rank_d_cos2"]) == {1}


def test_178_of_642_cos2_lie_outside_the_claimed_range():
    table = findings.cos2_outside_range()
    assert (table["outside"].sum(), table["layers"].sum()) == (178, 642)
    assert (table["below"].sum(), table["above"].sum()) == (159, 19)
