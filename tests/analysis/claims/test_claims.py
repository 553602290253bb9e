import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from analysis import claims
from analysis.claims import CLAIMS, Verdict, Word, verdict_table, verdicts
from analysis.claims.__main__ import main
from analysis.claims.evidence import balanced, evidence, paired
from analysis.figures import CHARTS, PAPER_CHARTS, STUDY_CHARTS
from analysis.tables import Study
from tests.analysis import planted, synthetic


def judged(plan: planted.Plan, seed: int = 0) -> dict[str, Verdict]:
    found = verdicts(planted.study(plan, np.random.default_rng(seed)))
    return {verdict.claim.name: verdict for verdict in found}


def words(found: dict[str, Verdict], *names: str) -> list[str]:
    return [found[name].word for name in names]


def test_planted_effects_are_found():
    found = judged(planted.Plan(of_width=0.3, spread=0.05))
    assert words(found, "C1", "C3", "C7", "C8", "C9", "C10") == ["supported"] * 6
    assert words(found, "C4", "C12") == ["refuted"] * 2  # Eq 12 planted 30 % off; Uout costs 2 points
    assert found["C2"].word == "mixed"  # grows, but before_bn is not about none at 0.1
    assert [decision.word for decision in found["C2"].decisions] == [
        "supported",
        "refuted",
        "supported",
        "supported",
    ]


def test_where_there_is_no_effect_none_is_found():
    found = judged(planted.no_effect(planted.Plan(seeds=8, spread=0.05)))
    assert words(found, "C1", "C6", "C7", "C8") == ["refuted"] * 4
    control = found["C8"].decisions[-1]
    assert control.word == "supported"
    assert not [
        d
        for v in found.values()
        for d in v.decisions
        if d.word == "supported" and "above 0" in d.part.prediction and v.claim.name not in ("C5",)
    ]


def test_without_any_shift_there_is_nothing_that_could_go_with_errors():
    verdict = judged(planted.no_effect(planted.Plan()))["C9"]
    assert verdict.word == "not testable with this study"
    assert verdict.missing == "no kind of noise that shifts by 5% or more"


def test_too_few_seeds_are_said_to_be_too_few():
    found = judged(planted.Plan(seeds=2, spread=1.5))
    assert words(found, "C8", "C9", "C10") == ["not testable with this study"] * 3
    assert found["C9"].missing.startswith("too few seeds; about ")
    assert '"members.seed=[$(seq -s, 0 ' in found["C9"].command
    one = judged(planted.Plan(seeds=1))
    assert {verdict.word for verdict in one.values()} == {Word.NOT_TESTABLE}
    assert one["C1"].missing == "1 seed: an interval needs two, and five to be narrow"


def test_more_seeds_decide_what_few_could_not():
    plan = planted.Plan(cost=(1.0, 0.5, -0.9), cost_of_shift=0, spread=0.4)
    few, many = judged(replace(plan, seeds=3))["C8"], judged(replace(plan, seeds=40))["C8"]
    assert few.word == "not testable with this study"
    assert many.word == "supported"
    detectable = [verdict.decisions[0].minimum_detectable for verdict in (few, many)]
    assert detectable[1] < detectable[0] / 2


def test_a_paired_contrast_is_the_paired_t_test_of_seed_means():
    found = evidence(planted.study(planted.Plan(widths=(16,)), np.random.default_rng(1)))
    contrast = paired(found.dropout("before_bn", 0.5), found.baseline(), "test_error", found.network)
    by_seed = found.members.set_index("seed")
    first = by_seed[(by_seed["placement"] == "before_bn") & (by_seed["strength"] == 0.5)]["test_error"]
    second = by_seed[by_seed["noise"] == "none"]["test_error"]
    theirs = scipy_stats.ttest_rel(first, second)
    assert contrast.estimate.value == pytest.approx((first - second).mean())
    assert contrast.estimate.interval() == pytest.approx(tuple(theirs.confidence_interval()))
    assert 2 * contrast.estimate.p_above(0) == pytest.approx(theirs.pvalue)
    assert contrast.members == 10


def test_a_setting_that_some_seed_lacks_does_not_tilt_the_mean():
    table = pd.DataFrame(
        {"seed": [0, 0, 1, 1, 2, 2], "rate": [1, 2] * 3, "value": [1.0, 50, 2, 50, 3, np.nan]}
    )
    means, used = balanced(table, "value", ["rate"])
    assert means.to_dict() == {0: 1.0, 1: 2.0, 2: 3.0}
    assert used == 3
    table = pd.DataFrame(
        {"seed": [0] * 4 + [1] * 4 + [2], "rate": [1, 2, 3, 4, 1, 2, 3, 4, 1], "value": [1.0] * 9}
    )
    means, used = balanced(table, "value", ["rate"])
    assert (list(means.index), used) == ([0, 1], 8)  # seed 2 lost most of its networks: it is left out


def test_the_learning_rate_is_chosen_on_the_validation_split_whatever_the_test_error():
    study = planted.study(planted.Plan(), np.random.default_rng(2))
    other = study.members.assign(lr=0.3, test_error=0.0, validation_error=9.0)
    members = pd.concat([study.members.assign(lr=0.1, validation_error=5.0), other], ignore_index=True)
    layers = pd.concat([study.layers.assign(lr=0.1), study.layers.assign(lr=0.3, shift_ratio=0.01)])
    both = Study("both", members, layers)
    found = evidence(both)
    assert set(found.members["lr"]) == {0.1}
    assert "lr" not in found.network
    assert len(found.members) == len(study.members)
    alone, chosen = (verdict_table(verdicts(each)) for each in (study, both))
    pd.testing.assert_frame_equal(alone, chosen)
    without = Study("without", members.drop(columns="validation_error"), layers)
    assert (
        evidence(without).network.count("lr") == 1
    )  # nothing to choose by: a network for each learning rate


def test_uout_and_dropout_of_equal_noise_variance_are_compared():
    """Uout planted to shift as much as dropout of its variance: at equal label less, at equal variance not."""
    study = planted.study(planted.Plan(shift=(0.8, 0.8, 0), of_width=0, seeds=8), np.random.default_rng(3))
    beta = float(np.sqrt(3 * 0.1 / 0.9))  # the noise variance of drop rate 0.1
    tables = []
    for table in (study.members, study.layers):
        twin = table[(table["noise"] == "dropout") & (table["strength"] == 0.1)]
        tables.append(pd.concat([table, twin.assign(noise="uout", strength=beta)], ignore_index=True))
    found = {verdict.claim.name: verdict for verdict in verdicts(Study("matched", *tables))}["C11"]
    assert [decision.word for decision in found.decisions] == ["supported", "refuted"]
    assert found.word == "mixed"
    assert found.decisions[1].part.contrast.estimate.value == 0


def test_normalisers_without_stored_statistics():
    study = planted.study(planted.Plan(seeds=6), np.random.default_rng(4))
    members = [study.members]
    for norm in ("group", "layer"):
        twin = study.members.assign(
            norm=norm, train_error_eval_mode=study.members["train_error_train_mode"] - 1
        )
        members.append(twin.assign(test_error_adjusted=np.nan))
    found = {
        v.claim.name: v for v in verdicts(Study("norms", pd.concat(members, ignore_index=True), study.layers))
    }
    assert found["C14"].word == "supported"
    assert (
        found["C14"].decisions[0].part.contrast.members == 2 * 2 * 2 * 6
    )  # two norms, two widths, six seeds, paired
    assert found["C1"].word == "supported"  # of networks with BN only


def test_little_data():
    study = planted.study(planted.Plan(seeds=6), np.random.default_rng(5))
    small = study.members.copy()
    small["test_error"] += np.where(small["noise"] == "uout", 1.0, 4.0)
    members = pd.concat(
        [study.members.assign(train_samples=1000), small.assign(train_samples=100)], ignore_index=True
    )
    layers = pd.concat([study.layers.assign(train_samples=size) for size in (1000, 100)], ignore_index=True)
    found = {v.claim.name: v for v in verdicts(Study("sizes", members, layers))}["C13"]
    assert found.word == "supported"
    assert found.decisions[0].part.contrast.estimate.value == pytest.approx(3)


def test_every_claim_is_there_once_and_its_table_has_a_row_each():
    assert [claim.name for claim in CLAIMS] == [f"C{number}" for number in range(1, 15)]
    table = verdict_table(verdicts(Study("synthetic", *synthetic.tables())))
    assert list(dict.fromkeys(table["claim"])) == [f"C{number}" for number in range(1, 15)]
    assert set(table["verdict"]) <= {word.value for word in Word}
    decided = table.dropna(subset=["effect"])
    assert (decided["low_simultaneous"] < decided["low"]).all()
    assert (decided["high_simultaneous"] > decided["high"]).all()
    assert table.loc[table["verdict"] == Word.NOT_TESTABLE, "missing"].astype(bool).all()


def test_the_command_prints_every_verdict_and_writes_the_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    folder = synthetic.write(tmp_path / "study", *synthetic.tables(widths=(16, 64)))
    assert main([str(folder)]) == 0
    said = capsys.readouterr().out
    assert all(f"\nC{number} " in f"\n{said}" for number in range(1, 15))
    assert max(map(len, said.splitlines()[:-1])) <= 80
    written = pd.read_csv(folder / "report" / "claims.csv")
    assert set(written["verdict"]) <= {word.value for word in Word}


def test_no_study_is_one_line_and_status_2(tmp_path):
    command = [sys.executable, "-m", "analysis.claims", str(tmp_path / "nothing")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("claims: ")


def test_what_the_shift_alone_causes_is_measured_against_the_noiseless_twin():
    study = planted.study(planted.Plan(), np.random.default_rng(6))
    twin = study.members[study.members["noise"] == "none"].set_index(["width", "seed"])["test_error"]
    own = twin.reindex(pd.MultiIndex.from_frame(study.members[["width", "seed"]])).to_numpy()
    caused = study.members["placement"].map({"before_bn": 3.0, "before_weight": 0.0})
    members = study.members.assign(
        test_error_transplanted=own + caused.where(study.members["noise"] == "dropout")
    )
    found = {v.claim.name: v for v in verdicts(Study("transplanted", members, study.layers))}["C9"]
    before_bn, before_weight = found.decisions[2:]
    assert before_bn.part.name == "error that the shift of before_bn 0.5 alone causes"
    assert before_bn.part.contrast.estimate.value == pytest.approx(3)
    assert [before_bn.word, before_weight.word, found.word] == ["supported", "refuted", "mixed"]


def test_what_would_supply_missing_evidence_are_sweeps_that_there_are():
    """Every `+sweep=NAME` in the claims' code names a file, and every figure a chart of the report."""
    code = "".join(path.read_text() for path in Path(claims.__file__).parent.glob("*.py"))
    named = set(re.findall(r"\+sweep=(\w+)", code))
    there = {path.stem for path in (Path(claims.__file__).parents[2] / "conf" / "sweep").glob("*.yaml")}
    assert named
    assert named <= there
    charts = {chart.name for chart in [*CHARTS, *PAPER_CHARTS, *STUDY_CHARTS]}
    assert {figure for claim in CLAIMS for figure in claim.figures} <= charts
