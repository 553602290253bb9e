"""`python -m experiments.modes`: what it writes and prints, where it goes on, what it refuses."""

import csv
import json

import pytest
import torch

from analysis.schema import TABLES
from experiments.modes import STATEMENTS, study
from experiments.modes.__main__ import main
from experiments.modes.finding import Finding
from experiments.modes.statement import Statement
from experiments.study.tables import write_table
from tests.conftest import files_below, in_this_process

FEW = [STATEMENTS[number - 1] for number in (8, 12, 19)]


@pytest.fixture
def modes(tmp_path, monkeypatch, capsys):
    """`python -m experiments.modes ARGUMENTS` in `tmp_path`."""
    return in_this_process(main, tmp_path, monkeypatch, capsys)


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


def test_it_writes_a_table_and_tests_nothing_twice(modes, tmp_path, few):
    ended = modes()
    assert ended.status == 0, ended.err
    folder = tmp_path / "outputs" / "modes"
    assert set(files_below(tmp_path)) == {
        "outputs", "outputs/modes", "outputs/modes/modes.csv", "outputs/modes/environment.json",
        "outputs/modes/.lock",
    }  # fmt: skip
    table = rows(folder)
    assert list(table[0]) == list(TABLES["modes.csv"].columns)
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
    again = modes()
    assert again.status == 0
    assert "3 of 3 statements are tested already" in again.err
    assert again.out == ended.out
    assert few == [8, 12, 19]
    assert files_below(tmp_path) == before


def test_a_run_that_was_stopped_goes_on(modes, tmp_path, few, monkeypatch):
    def stop() -> Finding:
        raise KeyboardInterrupt

    whole = study.STATEMENTS
    stopped = Statement(19, "", stop)
    monkeypatch.setattr(study, "STATEMENTS", [*whole[:2], stopped])
    assert modes("study=mine").status == 130
    assert [row["number"] for row in rows(tmp_path / "outputs" / "mine")] == ["8", "12"]
    monkeypatch.setattr(study, "STATEMENTS", whole)
    assert modes("study=mine").status == 0
    assert [row["number"] for row in rows(tmp_path / "outputs" / "mine")] == ["8", "12", "19"]
    assert few == [8, 12, 19]


def test_an_experiment_that_fails_is_a_row_and_is_tested_again(modes, tmp_path, few, monkeypatch):
    def broken() -> Finding:
        raise ImportError("torch.gone")

    whole = study.STATEMENTS
    failing = Statement(12, "BatchNorm", broken)
    monkeypatch.setattr(study, "STATEMENTS", [whole[0], failing, whole[2]])
    ended = modes()
    assert ended.status == 1
    assert "1 confirmed, 1 refuted, 1 failed" in ended.out
    assert [row["verdict"] for row in rows(tmp_path / "outputs/modes")] == ["confirmed", "failed", "refuted"]
    assert "torch.gone" in rows(tmp_path / "outputs/modes")[1]["explanation"]
    monkeypatch.setattr(study, "STATEMENTS", whole)
    assert modes().status == 0
    assert few == [8, 19, 12]


def test_results_of_another_torch_are_left_alone(modes, tmp_path, few):
    modes()
    folder = tmp_path / "outputs" / "modes"
    write_table(
        folder / "modes.csv", TABLES["modes.csv"].columns, [row | {"torch": "2.0.1"} for row in rows(folder)]
    )
    before = files_below(tmp_path)
    ended = modes()
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
def test_a_file_that_is_no_table_is_left_alone(modes, tmp_path, few, content):
    folder = tmp_path / "outputs" / "modes"
    folder.mkdir(parents=True)
    (folder / "modes.csv").write_bytes(content)
    ended = modes()
    assert ended.status == 2
    (line,) = ended.err.splitlines()
    assert "no table of statements" in line
    assert (folder / "modes.csv").read_bytes() == content


def test_a_statement_that_reads_otherwise_or_is_damaged_is_tested_again(modes, tmp_path, few):
    modes()
    folder = tmp_path / "outputs" / "modes"
    first, second, third = rows(folder)
    changed = [first | {"statement": "Another."}, second | {"verdict": "maybe"}, third]
    write_table(folder / "modes.csv", TABLES["modes.csv"].columns, changed)
    assert modes().status == 0
    assert few == [8, 12, 19, 8, 12]
    assert rows(folder) == [first, second, third]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model.width=8"], ["model.width=8", "no such key", "study, output"]),
        (["studdy=a"], ["studdy=a", "did you mean study?"]),
        (["--quick"], ["--quick", "KEY=VALUE", "study, output"]),
        (["study=../x"], ["study=../x", "the name of a folder"]),
        (["output="], ["output=", "the path of a folder"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line(modes, tmp_path, arguments, words):
    ended = modes(*arguments)
    assert ended.status == 2
    (line,) = ended.err.splitlines()
    assert all(word in line for word in words)
    assert ended.out == ""
    assert not list(tmp_path.iterdir())


def test_study_and_output_say_where_the_table_lies(modes, tmp_path, few):
    assert modes("study=a", "output=b").status == 0
    assert len(rows(tmp_path / "b" / "a")) == 3


def test_help_names_every_key(modes, tmp_path):
    ended = modes("--help")
    assert ended.status == 0
    assert "study=NAME" in ended.out
    assert "output=FOLDER" in ended.out
    assert not list(tmp_path.iterdir())


def test_the_sweep_that_it_once_was_names_the_command(run, tmp_path):
    ended = run("+sweep=modes", "study=a")
    assert ended.status == 2
    (line,) = ended.err.splitlines()
    assert "python -m experiments.modes" in line
    assert not list(tmp_path.iterdir())


def test_the_harness_names_the_command(run):
    assert "python -m experiments.modes" in run("--help").out
