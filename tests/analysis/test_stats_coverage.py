"""How often the intervals cover, and how often verdicts err, over 1,000 simulated studies."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from analysis.claims.errors import _rank_correlation
from analysis.claims.evidence import Evidence, between_groups, over_groups, paired
from analysis.claims.verdict import CannotTestError, Contrast, Word, about, more, outcomes
from analysis.stats import LEVEL, holm, independent_difference, mean_estimate
from tests.analysis import planted

STUDIES = 1000
NEAR = 0.02  # coverage may differ from 95 % by this; its own standard error is 0.007


@pytest.fixture(scope="module")
def studies() -> list[Evidence]:
    """1,000 studies of five seeds and two widths, with effects."""
    random = np.random.default_rng(20260)
    plan = planted.Plan(widths=(16, 64), spread=0.5)
    tables = [planted.study(plan, random, data=f"{index}").members for index in range(STUDIES)]
    members = pd.concat(tables, ignore_index=True)
    members["shift"] = 1 + 0.3 * members["strength"] + random.normal(0, 0.05, len(members))
    network = ["data", "model", "depth", "norm", "width"]
    return [Evidence(part, members[:0], network) for _, part in members.groupby("data", sort=False)]


def covered(estimates: list, truth: float | None = None) -> float:
    """The share of 95 % intervals that hold the true value; without one, the mean of all estimates."""
    truth = np.mean([estimate.value for estimate in estimates]) if truth is None else truth
    intervals = np.array([estimate.interval() for estimate in estimates])
    return float(((intervals[:, 0] <= truth) & (truth <= intervals[:, 1])).mean())


@pytest.mark.long
def test_paired_differences_cover(studies):
    """Baseline against last-layer dropout, whose mean over rates lowers the error by 1.5 x 0.4333 points."""
    gains = [
        paired(found.dropout("after_last_bn"), found.baseline(), "test_error", found.network).estimate
        for found in studies
    ]
    assert all(gain.n == 5 and gain.freedom == 4 for gain in gains)
    assert covered(gains, -1.5 * np.mean([0.1, 0.5, 0.7])) == pytest.approx(LEVEL, abs=NEAR)


@pytest.mark.long
def test_differences_between_widths_cover(studies):
    networks = ["data", "model", "depth", "norm"]
    differences = []
    for found in studies:
        members = found.dropout("before_weight")
        narrow, wide = (members[members["width"] == width] for width in (16, 64))
        differences.append(between_groups(narrow, wide, "shift", networks).estimate)
    assert covered(differences, 0) == pytest.approx(LEVEL, abs=NEAR)


@pytest.mark.long
def test_rank_correlations_cover(studies):
    lacking = CannotTestError("", "")
    correlations = [
        over_groups(found.members, _rank_correlation, found.network, lacking).estimate for found in studies
    ]
    assert 0.2 < np.mean([estimate.value for estimate in correlations]) < 0.9
    assert covered(correlations) == pytest.approx(LEVEL, abs=NEAR)


@pytest.mark.parametrize(("seeds", "spreads"), [((5, 5), (1, 1)), ((5, 5), (1, 6)), ((3, 8), (2, 1))])
def test_stratified_welch_covers_where_a_bootstrap_does_not(seeds, spreads):
    """Two strata, groups of different spread and size. The percentile bootstrap over seeds covers far less."""
    random = np.random.default_rng(7)
    samples = [
        [[random.normal(0, spread, n) for n, spread in zip(seeds, spreads, strict=True)] for _ in range(2)]
        for _ in range(STUDIES)
    ]
    assert covered([independent_difference(strata) for strata in samples], 0) >= LEVEL - NEAR
    inside = []
    for strata in samples:
        draws = np.zeros(500)
        for sign, group in [
            (sign, group) for pair in strata for sign, group in zip((1, -1), pair, strict=True)
        ]:
            draws += sign / 2 * random.choice(group, (500, len(group))).mean(axis=1)
        low, high = np.quantile(draws, [0.025, 0.975])
        inside.append(low <= 0 <= high)
    assert np.mean(inside) < LEVEL - NEAR


def test_equal_spreads_make_welch_exact():
    """With one stratum it is scipy's."""
    first, second = np.random.default_rng(3).normal(size=(2, 6))
    estimate = independent_difference([(first, second)])
    theirs = scipy_stats.ttest_ind(first, second, equal_var=False)
    assert estimate.freedom == pytest.approx(theirs.df)
    assert estimate.interval() == pytest.approx(tuple(theirs.confidence_interval()))
    assert 2 * min(estimate.p_above(0), estimate.p_below(0)) == pytest.approx(theirs.pvalue)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_what_is_said_to_be_detectable_is_detected_four_times_in_five(seeds):
    random = np.random.default_rng(seeds)
    significance = 0.01
    true_error = 1 / np.sqrt(seeds)
    effect = (
        true_error
        * mean_estimate(np.arange(seeds)).detectable(significance)
        / mean_estimate(np.arange(seeds)).error
    )
    found = [
        mean_estimate(random.normal(effect, 1, seeds)).p_above(0) < significance for _ in range(2 * STUDIES)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)  # standard error 0.009


@pytest.mark.parametrize("true", [0.0, 0.1, 0.2])
def test_any_wrong_verdict_comes_in_at_most_5_percent_of_studies(true):
    """Twelve numbers, half predicted above 0, half about 0, all at or between the ends of what matters (0.2)."""
    random = np.random.default_rng(11)
    wrong = 0
    for _ in range(STUDIES):
        estimates = [mean_estimate(random.normal(true, 0.1, 5)) for _ in range(12)]
        contrasts = [Contrast(estimate, 5) for estimate in estimates]
        parts = [
            (more if i % 2 else about)("", c, "", *([0.2] if i % 2 else [0, 0.2]))
            for i, c in enumerate(contrasts)
        ]
        words = [word for word, _ in outcomes(parts)]
        above, near = words[1::2], words[::2]
        false_above = {0.0: Word.SUPPORTED, 0.1: None, 0.2: Word.REFUTED}[true]
        false_near = {0.0: Word.REFUTED, 0.1: Word.REFUTED, 0.2: Word.SUPPORTED}[true]
        wrong += false_above in above or false_near in near
    assert wrong / STUDIES <= 0.05 + 0.014  # two standard errors


def test_holm_is_the_step_down_of_the_textbook():
    """Example of Holm (1979) as in R's p.adjust: 0.01, 0.02, 0.03, 0.005 -> 0.03, 0.04, 0.04, 0.02."""
    assert holm([0.01, 0.02, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.04, 0.04, 0.02])
    assert holm([0.01, 0.02, 0.03, 0.005], most_true=2).tolist() == pytest.approx([0.02, 0.04, 0.04, 0.01])
    assert holm([0.6, 0.7]).tolist() == [1, 1]
    assert holm([]).size == 0
