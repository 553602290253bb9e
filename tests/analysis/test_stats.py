import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from analysis.stats import mean_interval, over_seeds, paired_difference, per_seed


def test_interval_is_students_t():
    values = np.array([1.0, 2.0, 4.0, 7.0, 3.5])
    low, high = scipy_stats.t.interval(0.95, 4, loc=values.mean(), scale=scipy_stats.sem(values))
    assert mean_interval(values) == pytest.approx((values.mean(), low, high, 5))


@pytest.mark.parametrize("n", [2, 3, 5])
def test_interval_covers_the_true_mean_95_times_in_100(n):
    samples = np.random.default_rng(0).normal(3.0, 2.0, size=(4000, n))
    intervals = [mean_interval(sample) for sample in samples]
    coverage = np.mean([interval.low <= 3.0 <= interval.high for interval in intervals])
    assert coverage == pytest.approx(0.95, abs=0.015)  # standard error 0.0034


def test_one_value_has_a_mean_and_no_interval():
    one = mean_interval(np.array([2.0]))
    assert (one.mean, one.n) == (2.0, 1)
    assert np.isnan([one.low, one.high]).all()
    assert str(one) == "2.000"


def test_nothing_and_missing_values():
    assert np.isnan(mean_interval(np.array([])).mean)
    assert mean_interval(np.array([1.0, np.nan, 3.0])) == mean_interval(np.array([1.0, 3.0]))


def two_layers() -> pd.DataFrame:
    rows = [
        {"kind": kind, "seed": seed, "layer": layer, "ratio": 0.1 * seed + layer + (kind == "b")}
        for kind in "ab"
        for seed in range(4)
        for layer in (1, 2)
    ]
    return pd.DataFrame(rows)


def test_layers_are_averaged_within_the_seed_before_the_interval():
    table = over_seeds(two_layers(), "ratio", ["kind"])
    expected = mean_interval(np.array([1.5, 1.6, 1.7, 1.8]))  # 8 rows a kind, but 4 seeds
    assert table["kind"].tolist() == ["a", "b"]
    assert table.iloc[0, 1:].tolist() == pytest.approx(list(expected))
    assert table.loc[1, "mean"] == pytest.approx(expected.mean + 1)


def test_empty_values_do_not_count():
    table = two_layers()
    table.loc[table["kind"] == "a", "ratio"] = np.nan
    assert over_seeds(table, "ratio", ["kind"])["kind"].tolist() == ["b"]
    assert over_seeds(table.assign(ratio=np.nan), "ratio", ["kind"]).empty


def test_paired_difference_matches_seeds_and_sees_through_what_they_share():
    random = np.random.default_rng(1)
    shared = pd.Series(random.normal(0, 10, 6), index=range(6))
    first = shared + 0.5 + random.normal(0, 0.01, 6)
    second = shared[::-1]  # another order: labels are matched, not places
    difference = paired_difference(first, second)
    assert difference.mean == pytest.approx(0.5, abs=0.02)
    assert difference.high - difference.low < 0.05
    assert paired_difference(first, second.drop([0, 1])).n == 4


def test_per_seed_without_groups_is_indexed_by_seed():
    means = per_seed(two_layers(), "ratio", [])
    assert means.index.names == ["seed"]
    assert means[0] == pytest.approx(2.0)
