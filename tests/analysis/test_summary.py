import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from analysis.stats import mean_interval
from analysis.summary import summary_table
from experiments.study.summary import HEADINGS, summary_means
from tests.analysis import synthetic


def row(table: pd.DataFrame, **wanted) -> pd.Series:
    for column, value in wanted.items():
        table = table[table[column] == value]
    (index,) = table.index
    return table.loc[index]


def test_means_and_intervals_of_one_kind_of_noise():
    members, layers = synthetic.tables(widths=(16, 64), noises=("dropout",))
    got = row(summary_table(members, layers), placement="before_weight", strength=0.5)
    rows = layers[(layers["placement"] == "before_weight") & (layers["strength"] == 0.5)]
    noisy = rows[rows["layer_index"] > 1]  # the first has no noise before it
    shift = mean_interval(noisy.groupby("seed")["shift_ratio"].mean())
    assert list(got[["shift_ratio", "shift_ratio_low", "shift_ratio_high"]]) == pytest.approx(shift[:3])
    for ratio in ("local_ratio", "local_ratio_exact", "ratio_paper"):
        assert got[ratio] == pytest.approx(noisy[ratio].mean())
    of_kind = members[(members["placement"] == "before_weight") & (members["strength"] == 0.5)]
    assert got["test_error"] == pytest.approx(of_kind["test_error"].mean())
    assert got["test_error_adjusted"] == pytest.approx(of_kind["test_error_adjusted"].mean())
    assert (got["finished"], got["left_out"]) == (10, 0)


def test_rows_are_in_the_order_of_the_words():
    table = summary_table(*synthetic.tables(widths=(16,), seeds=(0,)))
    assert len(table) == 1 + 12 + 8 + 8
    assert table["placement"].unique().tolist() == ["none", "before_bn", "before_weight", "after_last_bn"]
    assert table.loc[table["placement"] == "before_bn", "noise"].unique().tolist() == [
        "dropout",
        "uout",
        "gaussian",
    ]
    assert table.loc[1:4, "strength"].tolist() == [0.1, 0.3, 0.5, 0.7]


def test_no_noise_has_no_local_ratio():
    table = summary_table(*synthetic.tables(widths=(16,), seeds=(0, 1)))
    assert np.isnan(row(table, placement="none")["local_ratio"])
    assert table.loc[table["placement"] == "after_last_bn", "local_ratio"].isna().all()


def test_shift_and_local_are_over_the_same_layers():
    """Where only layers with noise of their own shift, each by its own noise, the two means are one number."""
    members, layers = synthetic.tables(widths=(16,), noises=("dropout",))
    layers["shift_ratio"] = layers["local_ratio"].fillna(1.0)
    table = summary_table(members, layers)
    of_weight = table[table["placement"] == "before_weight"]
    assert of_weight["shift_ratio"].to_numpy() == pytest.approx(of_weight["local_ratio"].to_numpy())
    assert row(table, placement="none")["shift_ratio"] == 1  # all layers, where none has noise


def test_a_formula_that_says_nothing_of_one_of_the_layers_has_no_mean():
    members, layers = synthetic.tables(widths=(16,), noises=("dropout",))
    layers.loc[(layers["placement"] == "before_weight") & (layers["layer_index"] == 3), "ratio_paper"] = None
    table = summary_table(members, layers)
    assert table.loc[table["placement"] == "before_weight", "ratio_paper"].isna().all()
    assert table.loc[table["placement"] == "before_bn", "ratio_paper"].notna().all()


def test_two_seeds_have_no_interval_and_three_have_one():
    for seeds, known in ((2, False), (3, True)):
        table = summary_table(*synthetic.tables(widths=(16, 64), seeds=range(seeds), noises=("dropout",)))
        ends = table[[f"{name}_{end}" for name in ("shift_ratio", "test_error") for end in ("low", "high")]]
        assert (ends.notna() == known).all(axis=None)


def test_the_terminal_says_the_same_as_the_page():
    tables = synthetic.tables(widths=(16, 64), noises=("dropout", "uout"))
    of_page, of_terminal = summary_table(*tables), summary_means(*tables)
    columns = [name for name in of_terminal if name in of_page]
    assert {*HEADINGS, "shift_ratio_high", "test_error_high"} <= set(columns)
    pd.testing.assert_frame_equal(of_terminal[columns], of_page[columns], check_dtype=False)


def test_diverged_members_are_counted_and_not_averaged():
    members, layers = synthetic.tables(widths=(16,), noises=("dropout",))
    lost = (members["placement"] == "before_bn") & (members["strength"] == 0.7) & (members["seed"] < 2)
    got = row(summary_table(*synthetic.diverge(members, layers, lost)), placement="before_bn", strength=0.7)
    rows = layers[(layers["placement"] == "before_bn") & (layers["strength"] == 0.7) & (layers["seed"] >= 2)]
    assert (got["finished"], got["left_out"]) == (3, 2)
    assert got["shift_ratio"] == pytest.approx(rows["shift_ratio"].mean())


def test_a_kind_that_never_finished_keeps_its_row():
    members, layers = synthetic.tables(widths=(16,), seeds=(0, 1), noises=("dropout",))
    table = summary_table(*synthetic.diverge(members, layers, members["strength"] == 0.7))
    got = row(table, placement="before_bn", strength=0.7)
    assert (got["finished"], got["left_out"]) == (0, 2)
    assert np.isnan(got["shift_ratio"])


def test_widths_apart_on_demand_and_data_sets_always():
    one, two = synthetic.tables(seeds=(0,)), synthetic.tables(seeds=(0,), data="cifar10")
    assert summary_table(*one, by=["width"])["width"].unique().tolist() == [16, 64, 256]
    both = summary_table(*(pd.concat(tables) for tables in zip(one, two, strict=True)))
    assert both["data"].unique().tolist() == ["cifar10", "digits"]


def test_needs_no_plotting():
    code = "import sys, analysis.summary; print({'matplotlib', 'seaborn', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
