"""A job's folder: when it is finished, what damages it, and who may work in it."""

import fcntl
import json
import threading
import time

import pytest

from experiments.study.finished import is_finished
from experiments.study.job_folder import is_damaged, job_folder, read_job, start_job
from experiments.study.locks import job_lock
from experiments.study.merge import merge_tables
from experiments.study.tables import read_table
from tests.experiments.study.small_study import finish, make


def test_a_job_is_finished_when_its_tables_are_as_they_were_written(study):
    job = make(study)
    assert not is_finished(job)
    start_job(job)
    assert not is_finished(job)
    assert not is_damaged(job_folder(job))
    finish(job)
    assert is_finished(job)
    assert {path.name for path in job_folder(job).iterdir()} == {
        "config.yaml", "environment.json", "members.csv", "layers.csv", "epochs.csv", "done.json",
    }  # fmt: skip


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "layers.csv").write_bytes((folder / "layers.csv").read_bytes()[:-5]),
        lambda folder: (folder / "members.csv").write_text(
            (folder / "members.csv").read_text().replace("ok", "OK")
        ),
        lambda folder: (folder / "members.csv").unlink(),
        lambda folder: (folder / "epochs.csv").unlink(),
        lambda folder: (folder / "done.json").write_text("{"),
        lambda folder: (folder / "done.json").write_text("[]"),
        lambda folder: (folder / "done.json").write_text('{"members.csv": 1}'),
    ],
)
def test_a_damaged_job_is_not_finished_and_starts_from_nothing(study, damage):
    job = finish(make(study))
    damage(job_folder(job))
    assert not is_finished(job)
    assert is_damaged(job_folder(job))
    start_job(job)
    assert not is_damaged(job_folder(job))
    assert {path.name for path in job_folder(job).iterdir()} == {"config.yaml", "environment.json"}
    assert is_finished(finish(job))


@pytest.mark.parametrize("name", ["1e3", "2024-01-01", "yes", "null", "0x1f", "1_000", "Größe", "plain"])
def test_a_job_is_read_back_as_it_was_whatever_its_study_is_called(tmp_path, name):
    job = make(tmp_path / name, recipe__lr=1e-05, recipe__scaled_down=f"{name}: 'a' \"b\" # c")
    start_job(job)
    assert read_job(job_folder(job)) == job


def test_a_job_with_errors_keeps_its_rows_and_tracebacks_but_is_not_finished(study):
    job = finish(make(study), errors=("Traceback: first", "Traceback: second"))
    assert not is_finished(job)
    assert not is_damaged(job_folder(job))
    assert (job_folder(job) / "errors.txt").read_text() == "Traceback: first\nTraceback: second"
    assert merge_tables(study) == []
    assert len(read_table(study / "members.csv")) == 2
    finish(job)
    assert is_finished(job)
    assert not (job_folder(job) / "errors.txt").exists()


def test_the_environment_of_a_job_is_recorded(study):
    job = finish(make(study))
    environment = json.loads((job_folder(job) / "environment.json").read_text())
    assert {"command", "git_commit", "python", "packages", "machine", "processor", "cores"} <= set(
        environment
    )
    assert {"torch", "numpy", "hydra-core"} <= set(environment["packages"])


def test_a_job_that_runs_elsewhere_is_waited_for(study, capsys):
    job = make(study)
    with job_lock(job_folder(job)):
        pass
    assert capsys.readouterr().err == ""
    elsewhere = (job_folder(job) / ".lock").open("w")
    fcntl.flock(elsewhere, fcntl.LOCK_EX)
    threading.Timer(0.3, elsewhere.close).start()
    begin = time.monotonic()
    with job_lock(job_folder(job)):
        assert time.monotonic() - begin > 0.2
    assert capsys.readouterr().err == (f"{job.name}: another process is at work on it; waiting for its end\n")
