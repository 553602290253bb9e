"""How often the intervals cover, over 1,000 simulated studies and on real seeds."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from analysis.claims.cause import _concordance
from analysis.claims.coverage import coverage
from analysis.claims.coverage import main as coverage_command
from analysis.claims.evidence import Evidence
from analysis.claims.verdict import CannotTestError
from analysis.stats import LEVEL, SignFlips, holm, independent_difference, mean_estimate, seed_mean
from tests.analysis import planted, synthetic
from tests.analysis.claims import null

STUDIES = 1000
NEAR = 0.02  # coverage may differ from 95 % by this; its own standard error is 0.007


@pytest.fixture(scope="module")
def studies() -> list[Evidence]:
    """1,000 studies of five seeds and two widths, with effects."""
    random = np.random.default_rng(20260)
    plan = planted.Plan(widths=(16, 64), spread=0.5)
    tables = [planted.members_and_ratios(plan, random, data=f"{index}")[0] for index in range(STUDIES)]
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
        found.paired(found.dropout("after_last_bn"), found.baseline(), "test_error").estimate
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
        differences.append(found.between(narrow, wide, "shift", networks).estimate)
    assert covered(differences, 0) == pytest.approx(LEVEL, abs=NEAR)


@pytest.mark.long
def test_concordances_cover(studies):
    lacking = CannotTestError("")
    found = [
        study.of_each(study.members, _concordance, [*study.network, "noise", "strength"], lacking).estimate
        for study in studies
    ]
    assert covered(found) >= LEVEL - NEAR


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


def test_holm_is_the_step_down_of_the_textbook():
    """Example of Holm (1979) as in R's p.adjust: 0.01, 0.02, 0.03, 0.005 -> 0.03, 0.04, 0.04, 0.02."""
    assert holm([0.01, 0.02, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.04, 0.04, 0.02])
    assert holm([0.01, 0.02, 0.03, 0.005], most_true=2).tolist() == pytest.approx([0.02, 0.04, 0.04, 0.01])
    assert holm([0.6, 0.7]).tolist() == [1, 1]
    assert holm([]).size == 0


def tied() -> np.ndarray:
    """What BN adjustment wins back in 80 real networks without noise: nothing in 51 of them."""
    gain = null.MEMBERS["test_error"] - null.MEMBERS["test_error_adjusted"]
    assert (gain == 0).sum() == 51
    return gain.to_numpy()


def test_sign_flips_are_those_of_scipy():
    values = np.array([0, 0, 0, 0.2778, 0.5556, 0, -0.2778])
    flips = SignFlips(values)
    for bound in (-0.3, -0.2, 0, 0.1, 0.5):
        theirs = [
            scipy_stats.permutation_test(
                (values - bound,), np.mean, permutation_type="samples", alternative=side, n_resamples=1000
            ).pvalue
            for side in ("greater", "less")
        ]
        assert [flips.p_above(bound), flips.p_below(bound)] == pytest.approx(theirs)


def test_the_interval_of_sign_flips_holds_what_the_test_does_not_reject():
    random = np.random.default_rng(0)
    for _ in range(20):
        flips = SignFlips(random.normal(1, 1, 8))
        low, high = flips.interval()
        assert flips.p_above(low - 1e-6) <= 0.025 < flips.p_above(low + 1e-6)
        assert flips.p_below(high + 1e-6) <= 0.025 < flips.p_below(high - 1e-6)


def test_many_seeds_draw_their_sign_flips():
    random = np.random.default_rng(0)
    values = np.where(np.arange(30) < 18, 0.0, random.normal(0.3, 0.1, 30))
    low, high = seed_mean(values).interval()
    assert (low, high) == pytest.approx(mean_estimate(values).interval(), abs=0.02)


def test_an_adjustment_that_changes_nothing_is_not_certain_of_it_by_five_seeds():
    nothing = seed_mean(np.zeros(5))
    assert (nothing.p_above(-0.2), nothing.p_below(0.2)) == (
        1 / 32,
        1 / 32,
    )  # ties at 0 count for equivalence
    assert nothing.p_above(0) == 1
    assert nothing.interval() == (-np.inf, np.inf)  # two-sided .0625 is not enough for 95 %
    assert [nothing.least_seeds(level) for level in (0.05, 0.025, 0.05 / 3)] == [5, 6, 6]
    assert seed_mean(np.zeros(6)).interval() == (0, 0)
    assert seed_mean(np.arange(5.0)) == mean_estimate(np.arange(5.0))


@pytest.mark.parametrize("n", [5, 10, 20])
def test_intervals_cover_on_real_seeds_also_where_most_seeds_tie(n):
    by_t, by_claims, endless, off = coverage(tied(), n)
    assert by_claims >= LEVEL - NEAR - 0.01
    assert off < 0.1
    assert (endless > 0.5) == (n == 5)
    if n == 5:
        assert by_t < LEVEL - NEAR  # which is why the claims have another


@pytest.mark.parametrize("n", [5, 10, 20])
def test_intervals_cover_on_gaussian_data(n):
    values = np.random.default_rng(3).normal(2, 1, 5000)
    by_t, by_claims, endless, _ = coverage(values, n, draws=STUDIES)
    assert by_t == by_claims == pytest.approx(LEVEL, abs=NEAR)
    assert endless == 0


def test_the_coverage_of_a_study_is_printed_by_quantity(tmp_path, capsys):
    members, layers = synthetic.tables(
        widths=(16,), seeds=range(40), noises=("dropout",), placements=("before_bn",)
    )
    folder = synthetic.write(tmp_path / "many", members, layers)
    assert coverage_command([str(folder)]) == 0
    said = capsys.readouterr().out
    assert said.split("\n")[0].split()[:5] == ["quantity", "placement", "settings", "t", "5"]
    assert "won back by adjustment      none         1" in said
    few = synthetic.write(tmp_path / "few", members[members["seed"] < 5], layers[layers["seed"] < 5])
    assert coverage_command([str(few)]) == 2
    assert capsys.readouterr().err.endswith("no network with 40 seeds; see members.seed\n")
