"""What a run shows: one line for all jobs that fits a terminal, a line a job in a log."""

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.jobs.job_data import check_data, epoch_work
from experiments.jobs.progress import (
    FILE,
    FileReport,
    JobProgress,
    command_progress,
    look,
    watched,
)
from experiments.settings.config import Job
from experiments.settings.labels import label_jobs
from experiments.study.part import part_folder, work_folder
from tests.experiments.command_line import plan
from tests.experiments.small import small_job

MEMBERS = {"seed": [0, 1], "none": True, "dropout": {"rate": [0.5], "placement": ["before_bn"]}}


@pytest.fixture(params=[80, 50])
def terminal(monkeypatch, request) -> int:
    monkeypatch.setenv("COLUMNS", str(request.param))
    monkeypatch.setenv("FORCE_COLOR", "1")  # which makes rich take any file for a terminal
    monkeypatch.setenv("TERM", "xterm")
    return request.param


@pytest.fixture
def log(monkeypatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)


@pytest.fixture
def jobs(tmp_path) -> dict[str, Job]:
    """Two parts of a study, by their labels; the second is four times the work."""
    return {f"width {w}": replace(small_job(MEMBERS, width=w), output=str(tmp_path)) for w in (8, 16)}


def lines(text: str) -> list[str]:
    plain = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", text)
    return [line for line in re.split(r"[\r\n]+", plain) if line.strip()]


def test_one_line_shows_all_jobs_and_fits_the_terminal(terminal, jobs, capsys):
    with command_progress(jobs, {"width 8": 1.0, "width 16": 4.0}) as progress:
        progress.report("width 8", 0.5)
        progress.end("width 8")
        progress.report("width 16", 0.25)
        time.sleep(0.6)  # it is drawn twice a second
        progress.end("width 16")
    shown = lines(capsys.readouterr().err)
    assert re.fullmatch(r"\[2/2\] width 16 .* 40 %, \d:\d\d left in all", shown[-2])
    assert re.fullmatch(r"\[2/2\] .* 100 %, \d:\d\d in all", shown[-1])
    assert max(map(len, shown)) <= terminal
    assert "━━━" in shown[-2]


def test_a_log_gets_a_line_a_job_however_often_progress_is_made(log, jobs, capsys):
    with command_progress(jobs, dict.fromkeys(jobs, 1.0)) as progress:
        for label in jobs:
            for step in range(1000):
                progress.report(label, step / 1000)
            progress.end(label)
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"\[1/2\] width 8: 4 members, \d+\.\d s since the start", first)
    assert re.fullmatch(r"\[2/2\] width 16: 4 members, \d+\.\d s since the start", second)


def test_a_job_is_done_once_it_is_measured():
    told: list[float] = []
    progress = JobProgress(told.append, members=2, steps=100, epochs=15)
    progress.add_steps(200)
    progress.add_members(1)
    progress.add_members(1)
    assert told == pytest.approx([15 / 20, 17.5 / 20, 1])


def test_jobs_elsewhere_are_seen_by_their_files_until_their_part_is_there(log, jobs, capsys):
    first, second = jobs.values()
    with command_progress(jobs, dict.fromkeys(jobs, 1.0)) as progress, watched(jobs, progress):
        work_folder(first).mkdir(parents=True)
        FileReport(first)(0.5)
        look(jobs, progress)
        assert progress.running == ["width 8", "width 16"]
        part_folder(second).mkdir(parents=True)
        (part_folder(second) / "done.json").touch()
        (work_folder(first) / FILE).write_text("0.")  # half written
    assert progress.running == ["width 8"]
    assert re.fullmatch(r"\[1/2\] width 16: 4 members, .*\n", capsys.readouterr().err)


def test_a_job_writes_how_far_it_is_seldom_and_goes_on_where_it_cannot(tmp_path, jobs, monkeypatch):
    part, written = jobs["width 8"], []
    monkeypatch.setattr(Path, "write_text", lambda self, text: written.append(text))
    report = FileReport(part)
    for step in range(1000):
        report(step / 1000)
    assert written == ["0.0000"]
    monkeypatch.undo()
    FileReport(part)(0.5)  # there is no such folder
    assert not list(tmp_path.iterdir())


def test_a_wide_network_is_more_work_than_a_narrow_one():
    narrow, middle, wide = plan("-m", "model.width=16,64,256").jobs
    check_data([narrow, middle, wide])
    # 0.024, 0.051 and 0.288 ms a member and step were measured.
    assert 1.5 < epoch_work(middle) / epoch_work(narrow) < 3
    assert 8 < epoch_work(wide) / epoch_work(narrow) < 16


@pytest.mark.parametrize(
    ("arguments", "labels"),
    [
        ([], ["digits mlp width 64"]),
        (["-m", "model.width=8,16"], ["width 8", "width 16"]),
        (["-m", "model.width=8", "data=digits,gaussian"], ["data digits", "data gaussian"]),
        (["-m", "model.width=8", "job.shards=2"], ["digits mlp width 8, shard 1", "digits mlp width 8, shard 2"]),
    ],
)  # fmt: skip
def test_jobs_are_called_by_what_tells_them_apart(arguments, labels):
    planned = plan(*arguments)
    assert list(label_jobs(planned.jobs, planned.swept_keys).values()) == labels
