"""`python -m experiments.run +sweep=modes`: what it writes and prints, where it goes on, what it refuses."""

import csv
import json

import pytest
import torch

from experiments.modes import STATEMENTS, study
from experiments.modes.finding import Finding
from experiments.modes.statement import Statement
from experiments.study.tables import MODE_COLUMNS, write_table
from tests.conftest import files_below

FEW = [STATEMENTS[number - 1] for number in (8, 12, 19)]


@pytest.fixture
def few(monkeypatch):
    """Only three statements, quick ones; a list of the numbers that were tested."""
    tested = []

    def counted(statement: Statement):
        def experiment() -> Finding:
            tested.append(statement.number)
            return statement.experiment()

        experiment.__doc__ = statement.experiment.__doc__
        return Statement(statement.number, statement.topic, experiment)

    monkeypatch.setattr(study, "STATEMENTS", [counted(statement) for statement in FEW])
    return tested


def rows(folder) -> list[dict[str, str]]:
    with (folder / "modes.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_it_writes_a_table_and_tests_nothing_twice(run, tmp_path, few):
    ended = run("+sweep=modes")
    assert ended.status == 0, ended.err
    folder = tmp_path / "outputs" / "modes"
    assert set(files_below(tmp_path)) == {
        "outputs", "outputs/modes", "outputs/modes/modes.csv", "outputs/modes/environment.json",
        "outputs/modes/.lock",
    }  # fmt: skip
    table = rows(folder)
    assert list(table[0]) == list(MODE_COLUMNS)
    assert [row["number"] for row in table] == ["8", "12", "19"]
    assert [row["verdict"] for row in table] == ["confirmed", "confirmed", "refuted"]
    assert {row["torch"] for row in table} == {torch.__version__}
    for row in table:
        numbers = json.loads(row["measured"])
        assert len(numbers) >= 3
        assert row["statement"] in " ".join(ended.out.split()) or row["statement"][:30] in ended.out
        assert row["evidence"].count(" = ") == len(numbers)
    assert "2 confirmed, 1 refuted" in ended.out
    assert "python -m analysis.modes outputs/modes" in ended.out
    assert few == [8, 12, 19]

    before = files_below(tmp_path)
    again = run("+sweep=modes")
    assert again.status == 0
    assert "3 of 3 statements are tested already" in again.err
    assert again.out == ended.out
    assert few == [8, 12, 19]
    assert files_below(tmp_path) == before


def test_a_run_that_was_stopped_goes_on(run, tmp_path, few, monkeypatch):
    def stop() -> Finding:
        raise KeyboardInterrupt

    whole = study.STATEMENTS
    stopped = Statement(19, "", stop)
    monkeypatch.setattr(study, "STATEMENTS", [*whole[:2], stopped])
    assert run("+sweep=modes", "study=mine").status == 130
    assert [row["number"] for row in rows(tmp_path / "outputs" / "mine")] == ["8", "12"]
    monkeypatch.setattr(study, "STATEMENTS", whole)
    assert run("+sweep=modes", "study=mine").status == 0
    assert [row["number"] for row in rows(tmp_path / "outputs" / "mine")] == ["8", "12", "19"]
    assert few == [8, 12, 19]


def test_an_experiment_that_fails_is_a_row_and_is_tested_again(run, tmp_path, few, monkeypatch):
    def broken() -> Finding:
        raise ImportError("torch.gone")

    whole = study.STATEMENTS
    failing = Statement(12, "BatchNorm", broken)
    monkeypatch.setattr(study, "STATEMENTS", [whole[0], failing, whole[2]])
    ended = run("+sweep=modes")
    assert ended.status == 1
    assert "1 confirmed, 1 refuted, 1 failed" in ended.out
    assert [row["verdict"] for row in rows(tmp_path / "outputs/modes")] == ["confirmed", "failed", "refuted"]
    assert "torch.gone" in rows(tmp_path / "outputs/modes")[1]["explanation"]
    monkeypatch.setattr(study, "STATEMENTS", whole)
    assert run("+sweep=modes").status == 0
    assert few == [8, 19, 12]


def test_results_of_another_torch_are_left_alone(run, tmp_path, few):
    run("+sweep=modes")
    folder = tmp_path / "outputs" / "modes"
    write_table(folder / "modes.csv", MODE_COLUMNS, [row | {"torch": "2.0.1"} for row in rows(folder)])
    before = files_below(tmp_path)
    ended = run("+sweep=modes")
    assert ended.status == 2
    (line,) = ended.err.splitlines()
    assert line.startswith("error: study=modes: ")
    assert "torch 2.0.1" in line
    assert torch.__version__ in line
    assert "study=NAME" in line
    assert files_below(tmp_path) == before


@pytest.mark.parametrize(
    "content", [b"\x00\xff", b"a,b\n1,2\n", b"number,verdict\nx,y\n"], ids=["bytes", "columns", "number"]
)
def test_a_file_that_is_no_table_is_left_alone(run, tmp_path, few, content):
    folder = tmp_path / "outputs" / "modes"
    folder.mkdir(parents=True)
    (folder / "modes.csv").write_bytes(content)
    ended = run("+sweep=modes")
    assert ended.status == 2
    (line,) = ended.err.splitlines()
    assert "no table of statements" in line
    assert (folder / "modes.csv").read_bytes() == content


def test_a_statement_that_reads_otherwise_or_is_damaged_is_tested_again(run, tmp_path, few):
    run("+sweep=modes")
    folder = tmp_path / "outputs" / "modes"
    first, second, third = rows(folder)
    changed = [first | {"statement": "Another."}, second | {"verdict": "maybe"}, third]
    write_table(folder / "modes.csv", MODE_COLUMNS, changed)
    assert run("+sweep=modes").status == 0
    assert few == [8, 12, 19, 8, 12]
    assert rows(folder) == [first, second, third]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["+sweep=modes", "model.width=8"], ["model.width=8", "kind=modes", "study and output"]),
        (["+sweep=modes", "members.seed=[1]"], ["members.seed=[1]", "without effect"]),
        (["+sweep=modes", "device=cpu"], ["device=cpu", "without effect"]),
        (["+sweep=modes", "hydra.verbose=true"], ["hydra.verbose=true", "without effect"]),
        (["+sweep=variance_shift", "kind=modes"], ["model.width=16,64,256", "without effect"]),
        (["-m", "kind=members,modes"], ["kind", "one kind"]),
        (["-m", "+sweep=modes", "study=a,b"], ["one study"]),
        (["kind=mode"], ["kind=mode", "members, modes"]),
        (["+sweep=modes", "study=../x"], ["study=../x"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line(run, tmp_path, arguments, words):
    ended = run(*arguments)
    assert ended.status == 2
    (line,) = ended.err.splitlines()
    assert all(word in line for word in words)
    assert ended.out == ""
    assert not list(tmp_path.iterdir())


def test_it_runs_without_a_sweep_file(run, tmp_path, few):
    assert run("kind=modes", "study=a", "output=b").status == 0
    assert len(rows(tmp_path / "b" / "a")) == 3


def test_help_names_it(run):
    text = run("--help").out
    assert "+sweep=modes" in text
    assert "kind: members" in text
