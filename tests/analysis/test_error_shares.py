"""Shares of the accuracy gap: planted in tables, and the coverage of their interval by simulation."""

import numpy as np
import pandas as pd
import pytest

from analysis.error_shares import error_shares
from analysis.stats import ratio_interval
from tests.analysis.planted import planted_shares


def test_planted_shares_are_found():
    table = error_shares(planted_shares())
    assert len(table) == 2 * 3 * 4 * 3  # widths, placements, rates, quantities
    shares = table.set_index("quantity")["share"]
    assert shares["transplant"].to_numpy() == pytest.approx(0.25)
    assert shares["removal"].to_numpy() == pytest.approx(0.4)
    assert shares["gap"].isna().all()


def test_points_are_paired_differences():
    members = planted_shares()
    here = members[
        (members["width"] == 16) & (members["placement"] == "before_bn") & (members["strength"] == 0.5)
    ]
    base = members[(members["width"] == 16) & (members["noise"] == "none")].set_index("seed")
    gaps = here.set_index("seed")["test_error"] - base["test_error"]
    table = error_shares(members)
    row = table[
        (table["width"] == 16)
        & (table["placement"] == "before_bn")
        & (table["strength"] == 0.5)
        & (table["quantity"] == "gap")
    ].iloc[0]
    assert (row["mean"], row["n"]) == (pytest.approx(gaps.mean()), 6)
    assert row["low"] < row["mean"] < row["high"]


def test_without_a_gap_there_is_no_share():
    members = planted_shares()
    random = np.random.default_rng(2)
    members["test_error"] = 3 + random.normal(0, 1, len(members))
    table = error_shares(members)
    gap = table[table["quantity"] == "gap"].reset_index()
    unknown = (gap["low"] < 0) & (gap["high"] > 0)
    assert unknown.sum() > len(gap) / 2
    for quantity in ("transplant", "removal"):
        share = table[table["quantity"] == quantity].reset_index()
        assert (share["share"].isna() == unknown).all()


def test_members_without_twin_or_transplant_do_not_count():
    members = planted_shares()
    assert error_shares(members[members["noise"] != "none"]).empty
    alone = error_shares(members.drop(columns="test_error_transplanted")).set_index("quantity")
    assert alone.loc["transplant", "share"].isna().all()
    assert alone.loc["removal", "share"].to_numpy() == pytest.approx(0.4)


def test_the_interval_of_a_ratio_covers():
    """Normal pairs, correlated: 95 % of the intervals hold the ratio of the true means."""
    random = np.random.default_rng(0)
    held = []
    for _ in range(4000):
        gap = random.normal(5, 2, 5)
        share = ratio_interval(pd.Series(0.3 * gap + random.normal(0, 0.7, 5)), pd.Series(gap))
        # An undefined share is Fieller's unbounded set, which here holds the truth or its complement does.
        if not np.isnan(share.low):
            held.append(share.low <= 0.3 <= share.high)
    assert len(held) > 3800
    assert np.mean(held) == pytest.approx(0.95, abs=0.01)


def test_the_interval_of_a_ratio_from_too_few_pairs():
    assert np.isnan(ratio_interval(pd.Series([1.0]), pd.Series([2.0])).mean)
