"""How commands end: readers that leave, streams that cannot be written, and errors that are our own."""

import os
import subprocess
import sys

import pytest

from experiments.command import exit_status
from tests.conftest import TINY
from tests.experiments.command_line import command, tables
from tests.places import ROOT

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def nobody_reads():
    """A pipe's end to write to, whose reader is gone."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


def test_a_study_is_made_to_its_end_though_nobody_reads_what_is_printed(tmp_path, nobody_reads):
    ended = subprocess.run(
        command(*TINY), cwd=tmp_path, env=ENVIRONMENT, stdout=nobody_reads, stderr=nobody_reads
    )
    assert ended.returncode == 0
    members, _ = tables(tmp_path / "out" / "first_look")
    assert list(members.status) == ["ok"] * 5


@pytest.mark.parametrize(
    ("module", "arguments"), [("experiments.run", ["--cfg", "job"]), ("experiments.modes", ["--help"])]
)
def test_a_reader_that_leaves_is_no_error(module, arguments, tmp_path, nobody_reads):
    ended = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=nobody_reads,
        stderr=subprocess.PIPE,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize(("redirection", "status", "lines"), [(">&-", 0, 0), (">/dev/full", 1, 1)])
def test_stdout_that_is_closed_or_full_is_no_traceback(redirection, status, lines, tmp_path):
    shell = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command("--help")]
    ended = subprocess.run(shell, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == status
    assert len(ended.stderr.splitlines()) == lines


def test_an_error_of_the_system_is_one_line_whatever_the_path_holds(capsys):
    def work() -> int:
        raise FileNotFoundError(2, "No such file or directory", "a\nb\x1b")

    assert exit_status(work, "export") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("export: ")
    assert line.isprintable()


def test_an_error_of_ours_keeps_its_traceback(run, tiny, monkeypatch):
    def broken(*_, **__):
        raise TypeError("a mistake of ours")

    monkeypatch.setattr("experiments.jobs.launch.run_job", broken)
    with pytest.raises(TypeError, match="a mistake of ours"):
        run(*tiny)
