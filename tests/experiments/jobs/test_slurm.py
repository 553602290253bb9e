"""Jobs that Slurm has: remembered in the study, waited for by their parts, given up once Slurm has lost them."""

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.jobs import slurm
from experiments.jobs.progress import command_progress
from experiments.jobs.slurm import queued_jobs, remember, wait_for_jobs
from experiments.settings.config import Job
from experiments.study.part import part_folder
from tests.experiments.small import small_job


@pytest.fixture
def parts(tmp_path, monkeypatch) -> dict[str, Job]:
    monkeypatch.setattr(slurm, "ASKING", 0.02)
    monkeypatch.setattr(slurm, "SECONDS", 0.04)
    members = {"seed": [0], "none": True}
    return {str(width): replace(small_job(members, width), output=str(tmp_path)) for width in (4, 8)}


def answer(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Have `squeue` be a script, in front of the one that there may be."""
    program = folder / "squeue"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_a_job_that_slurm_has_lost_is_given_up_and_the_others_are_waited_for(
    parts, tmp_path, monkeypatch, capsys
):
    # The second one is there when Slurm was asked three times.
    ended = part_folder(parts["8"])
    answer(monkeypatch, tmp_path, f"echo x >>count; [ $(wc -l <count) -lt 3 ] || {{ mkdir -p {ended}; touch {ended}/done.json; }}; echo '7_0|FAILED'; echo '7_1|RUNNING'")  # fmt: skip  # noqa: E501
    monkeypatch.chdir(tmp_path)
    numbers = {parts["4"].name: "7_0", parts["8"].name: "7_1"}
    with command_progress(parts, dict.fromkeys(parts, 1.0)) as progress:
        wait_for_jobs(parts, numbers, progress)
    lines = capsys.readouterr().err.splitlines()
    lost, there = sorted(lines, reverse=True)
    assert lost.startswith("error: 4: Slurm's job 7_0 is over and wrote no tables; what it said lies in ")
    assert there.startswith("[1/2] 8: 1 members")
    assert progress.running == ["4"]


def test_jobs_are_remembered_while_slurm_has_them(tmp_path, monkeypatch):
    answer(monkeypatch, tmp_path, "echo '3_0|PENDING'; echo '3_1|COMPLETED'; echo '4|RUNNING'")
    study = tmp_path / "study"
    assert queued_jobs(study) == {}
    remember(study, {"a": "3_0", "b": "3_1", "c": "4", "d": "5"})
    assert queued_jobs(study) == {"a": "3_0", "c": "4"}
    (study / slurm.SUBMITTED).write_text("torn")
    assert queued_jobs(study) == {}


def test_a_slurm_that_does_not_answer_is_one_line(tmp_path, monkeypatch):
    answer(monkeypatch, tmp_path, "echo 'squeue: error: no controller' >&2; exit 1")
    remember(tmp_path, {"a": "3_0"})
    with pytest.raises(OSError, match=r"^Slurm does not answer \(squeue: error: no controller\)$"):
        queued_jobs(tmp_path)
