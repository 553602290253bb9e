"""until=decided: a study that goes on by itself until its claims are decided."""

import json

import pandas as pd
import pytest

from analysis import claims
from analysis.tables import read_study
from experiments import until
from experiments.study.tables import read_table
from tests.conftest import files_below


@pytest.fixture
def small() -> list[str]:
    return [
        *("data=gaussian", "data.train_size=64", "data.test_size=32", "data.features=4", "model.width=4"),
        *("model.depth=2", "recipe.epochs=1", "recipe.batch_size=32", "processes=1", "output=out", "study=s"),
        *("measure.interventions=false", "members.dropout.rate=[0.5]"),
    ]


def seeds(study) -> set[str]:
    return {row["seed"] for row in read_table(study / "members.csv")}


def test_a_study_stops_at_the_first_look_that_decides(run, tmp_path, small):
    ended = run(*small, "until=decided", "until.claims=[C1]")
    assert ended.status == 0
    assert ended.err.endswith("until: decided with 10 seeds\n")
    study = tmp_path / "out" / "s"
    assert seeds(study) == {str(number) for number in range(10)}
    assert json.loads((study / "until.json").read_text()) == {"looks": [10, 20, 40]}
    again = run(*small, "until=decided", "until.claims=[C1]")
    assert again.err.startswith("grow: all ")
    assert again.err.endswith("until: decided with 10 seeds\n")


def test_looks_come_one_after_the_other_each_once_and_no_more_than_allowed(run, tmp_path, small, monkeypatch):
    looked: list[int] = []

    def undecided(study, names):
        looked.append(len(seeds(study)))
        if looked == [10, 20]:
            raise KeyboardInterrupt
        return ["C9"]

    monkeypatch.setattr(until, "look", undecided)
    assert run(*small, "until=decided", "until.most=25").status == 130
    assert run(*small, "members.seed=[21]").status == 0  # the third look had begun
    ended = run(*small, "until=decided", "until.most=25")
    assert ended.status == 0
    assert ended.err.endswith("until: C9 undecided with 25 seeds\n")
    assert looked == [10, 20, 25]


def test_whoever_asks_later_gets_the_verdicts_of_a_third_of_5_percent(run, tmp_path, small):
    assert run(*small, "members.seed=[0,1,2]").status == 0
    study = tmp_path / "out" / "s"
    alone = {verdict.claim.name: verdict for verdict in claims.verdicts(read_study(study))}
    (study / "until.json").write_text('{"looks": [10, 20, 40]}')
    several = {verdict.claim.name: verdict for verdict in claims.verdicts(read_study(study))}
    one, three = (found["C1"].decisions[0] for found in (alone, several))
    each = len(alone["C1"].decisions)
    assert (one.low, one.high) == (three.low, three.high)
    assert (one.low_simultaneous, one.high_simultaneous) == one.part.estimate.interval(1 - 0.05 / each)
    assert (three.low_simultaneous, three.high_simultaneous) == pytest.approx(
        one.part.estimate.interval(1 - 0.05 / 3 / each)
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["until=decided", "members.seed=[0,1]"], "members.seed=[0,1]: until=decided chooses the seeds"),
        (["until=decided", "until.most=100"], "until.most=100: allowed is a whole number from 10 to 40"),
        (["until=decided", "until.claims=[C99]"], 'until.claims=["C99"]: allowed is null'),
        (["until=soon"], "until=soon: allowed is one of decided, none"),
        (["until.most=20"], "until.most=20: no key of the chosen until, only of until=decided"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_is_trained(run, tmp_path, small, arguments, line):
    ended = run(*small, *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith(f"error: {line}")
    assert ended.err.count("\n") == 1
    assert files_below(tmp_path) == {}


def test_a_named_claim_that_the_study_cannot_test_is_one_line(run, tmp_path, small):
    ended = run(*small, "until=decided", "until.claims=[C13]")
    assert ended.status == 2
    line = ended.err.splitlines()[-1]
    assert line.startswith(
        "error: until.claims=C13: this study cannot test it (one size of training set only"
    )
    assert len(seeds(tmp_path / "out" / "s")) == 10


def test_a_named_claim_that_does_not_arise_is_neither_undecided_nor_an_error(run, tmp_path, small):
    assert run("-m", *small, "model.norm=batch,layer", "members.seed=[0,1,2,3,4,5]").status == 0
    study = tmp_path / "out" / "s"
    members = pd.read_csv(study / "members.csv", keep_default_na=False)
    in_train_mode = members["train_error_train_mode"].astype(float)
    members.assign(train_error_eval_mode=in_train_mode - 3).to_csv(study / "members.csv", index=False)
    (verdict,) = [found for found in claims.verdicts(read_study(study)) if found.claim.name == "Q2"]
    assert verdict.word == "does not arise"
    assert until.look(study, ["Q2"]) == []
