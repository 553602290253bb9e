"""Every prediction is met by the paper's own published numbers, and none by networks in which nothing is there."""

import re
from collections import Counter

import numpy as np
import pytest

from analysis.claims import CLAIMS, QUESTIONS, Word, on_paper
from analysis.claims.evidence import evidence
from analysis.claims.ledger import attempt, verdict_on
from analysis.claims.published import published
from tests.analysis.claims import null
from tests.places import ROOT

TABLES = 5
TWO_WIDTHS = {"width": (16, 64)}
EVERY = {claim.name: claim for claim in (*CLAIMS, *QUESTIONS)}
# What a claim needs of a table besides the kinds of noise that most need.
LABELS: dict[str, dict] = {
    "C5": TWO_WIDTHS,
    "C6": TWO_WIDTHS,
    "C12": {"model": ("mlp", "resnext")},
    "C13": {"train_samples": (1000, 100)},
    "Q2": {"norm": ("batch", "group", "layer")},
}


@pytest.mark.parametrize("claim", EVERY.values(), ids=EVERY)
def test_the_papers_own_numbers_meet_every_prediction(claim):
    """A prediction that the paper fails is no test of the paper. What cannot be put to its tables is said."""
    parts, obstacles = attempt(claim, published())
    assert [part.name for part in parts if not part.holds] == []
    assert bool(obstacles) == bool(claim.not_in_paper)
    assert parts or claim.not_in_paper
    assert "not met" not in on_paper(claim)


def test_the_paper_is_read_as_it_was_printed():
    """Numbers of the tables, and the networks and data sets behind each."""
    members = published().members.set_index(["data", "model", "placement", "noise", "strength"])
    assert (
        members.loc[("CIFAR10", "PreResNet-110", "before_bn", "dropout", 0.5), "test_error_adjusted"] == 6.42
    )
    assert members.loc[("CIFAR100", "WRN-28-10", "none", "none", 0.0), "test_error"] == 19.17
    assert members.loc[("ImageNet", "SENet", "after_last_bn", "dropout", 0.2), "test_error"] == 18.68
    assert members["seed"].nunique() == 11
    parts = {part.name: part for claim in CLAIMS for part in attempt(claim, published())[0]}
    weak = next(part for name, part in parts.items() if "before_bn, rate 0.1 minus no noise" in name)
    assert (weak.estimate.value, weak.estimate.n) == (pytest.approx(0.049, abs=0.001), 8)
    best = next(part for name, part in parts.items() if name.endswith("best beta"))
    # By hand: each network's best beta on one data set, judged on the other; a pair for each of three networks.
    assert best.estimate.value == pytest.approx(np.mean([0.19, 0.13, 0.11, 0.04, 0.28, 0.11]), abs=0.005)


def test_the_page_says_what_the_papers_numbers_come_to():
    """Each number of a claim, as far as the row of its table gives it, in their order."""
    page = (ROOT / "analysis" / "claims" / "README.md").read_text()
    rows = dict(re.findall(r"^\| (C\d+[ab]?) \| (.*) \|$", page, re.MULTILINE))
    untested = [claim.name for claim in CLAIMS if not attempt(claim, published())[0]]
    assert f"| {', '.join(untested)} | not published |" in page
    for claim in CLAIMS:
        if claim.name in untested:
            continue
        told = [
            float(number) for number in re.findall(r"-?\d+\.\d+", re.sub(r"\(.*?\)", "", rows[claim.name]))
        ]
        found = [part.estimate.value for part in attempt(claim, published())[0]]
        assert told == pytest.approx(found, abs=0.006, rel=0.02), claim.name


@pytest.fixture(scope="module")
def words() -> dict[str, Counter]:
    """Verdicts on null tables, by claim."""
    random = np.random.default_rng(7)
    counted: dict[str, Counter] = {name: Counter() for name in EVERY}
    for labels in ({}, TWO_WIDTHS, *(LABELS[name] for name in ("C12", "C13", "Q2"))):
        claims = [claim for name, claim in EVERY.items() if LABELS.get(name, {}) == labels]
        for _ in range(TABLES):
            found = evidence(null.study(random, **labels))
            for claim in claims:
                counted[claim.name][verdict_on(claim, found).word] += 1
    return counted


@pytest.mark.parametrize("name", EVERY)
def test_no_claim_is_supported_by_noise_free_networks_relabelled_as_noisy(words, name):
    assert words[name][Word.SUPPORTED] == 0


def test_on_null_tables_the_claims_of_an_effect_are_refuted_or_open(words):
    """Five seeds know the size of the shift so well that its absence refutes; of errors they leave more open."""
    for name in ("C1", "C3", "C4", "C11"):
        assert words[name].keys() == {Word.REFUTED}, name
    for name in ("C7a", "C7b", "C8", "C10", "C12", "C13"):
        assert words[name].keys() <= {Word.REFUTED, Word.UNDECIDED, Word.MIXED, Word.PARTLY}, name
    assert words["C2"].keys() <= {Word.MIXED, Word.PARTLY}  # about none at 0.1, but it does not grow
    for name in ("C9", "Q1", "Q2", "Q3"):  # no shift and no harm to speak of
        assert words[name].keys() <= {Word.NOT_TESTABLE, Word.DOES_NOT_ARISE}, name
