"""What a run shows: a bar that fits a terminal, and few lines in a log."""

import re
import time

import pytest

from experiments.jobs.progress import job_progress, jobs_progress

NAME = "fashion_mnist-preresnet-width256-depth18-batch-0123abcd"


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")  # which makes rich take any file for a terminal
    monkeypatch.setenv("TERM", "xterm")


def test_the_bar_shows_all_its_numbers_in_80_columns(terminal, capsys):
    with job_progress(NAME, members=435, steps=30_000) as progress:
        progress.add_steps(123_456)
        progress.add_members(29)
    plain = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", capsys.readouterr().err)
    first, *shown = [line for line in re.split(r"[\r\n]+", plain) if line.strip()]
    assert first == f"{NAME}: 435 members of 30,000 steps"
    for piece in ("29/435 members", "123,456/13,050,000 steps", "0:00:0", "left"):
        assert piece in shown[-1]
    assert "…" not in plain
    assert max(map(len, shown)) <= 80
    assert shown[-1].count("━") > 5


def test_a_log_gets_two_lines_however_often_progress_is_made(capsys, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with job_progress(NAME, members=3, steps=1000) as progress:
        for _ in range(3000):
            progress.add_steps(1)
        progress.add_members(3)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0] == f"{NAME}: 3 members of 1,000 steps"
    assert re.fullmatch(rf"{NAME}: 3 members in \d+\.\d s", lines[1])


def test_jobs_elsewhere_are_counted_as_they_end(capsys):
    ended = iter([0, 1, 1, 3])
    with jobs_progress(3, lambda: next(ended, 3), seconds=0.01):
        time.sleep(0.3)
    assert capsys.readouterr().err == "1 of 3 jobs have ended\n3 of 3 jobs have ended\n"
