"""A job's folder: when it is finished, what damages it, and who may work in it."""

import fcntl
import json
import os
import resource
import shutil
import threading
import time
from pathlib import Path

import pytest

from experiments.settings.config import Job
from experiments.study.finished import is_finished
from experiments.study.job_folder import (
    finish_job,
    has_failed,
    is_damaged,
    job_folder,
    move_new_tables,
    read_job,
    recorded_data,
    start_job,
)
from experiments.study.locks import job_lock
from experiments.study.merge import merge_tables
from experiments.study.tables import read_table
from tests.conftest import files_below
from tests.experiments.study.small_study import finish, make, row


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


def test_the_folder_of_another_job_in_place_of_a_finished_one_is_not_believed(study):
    job, other = finish(make(study)), finish(make(study, model__width=99))
    shutil.rmtree(job_folder(job))
    shutil.copytree(job_folder(other), job_folder(job))
    assert is_damaged(job_folder(job))
    assert not is_finished(job)
    assert is_finished(other)
    assert is_finished(finish(job))


def test_a_record_of_an_earlier_version_holds_checksums_alone(study):
    job = finish(make(study))
    record = job_folder(job) / "done.json"
    record.write_text(json.dumps(json.loads(record.read_text())["tables"]))
    assert is_finished(job)
    assert recorded_data(job_folder(job)) is None


def test_a_job_records_the_data_that_it_was_trained_on(study):
    job = make(study)
    assert recorded_data(job_folder(job)) is None
    finish(job, fingerprint="1 files")
    assert recorded_data(job_folder(job)) == ("digits", "1 files")


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


def test_what_cannot_be_looked_at_is_not_taken_for_missing(study):
    job = finish(make(study))
    for path in (job_folder(job) / "done.json", job_folder(job).parent):
        elsewhere = path.rename(study / "elsewhere")
        path.symlink_to(path.name)  # a loop
        for look in (lambda: is_finished(job), lambda: merge_tables(study)):
            with pytest.raises(OSError, match="Too many levels of symbolic links"):
                look()
        path.unlink()
        elsewhere.rename(path)
    assert is_finished(job)
    assert merge_tables(study) == []


def rows_of(job: Job, epoch: int, reason: str = "") -> dict[str, list[dict]]:
    rows = [row(job, member) for member in job.members]
    return {
        "members.csv": [r | {"status": "ok", "reason": reason} for r in rows],
        "layers.csv": [r | {"layer_index": epoch} for r in rows],
        "epochs.csv": [r | {"epoch": epoch} for r in rows],
    }


def test_a_full_disk_costs_a_job_that_runs_again_nothing_of_what_it_holds(study):
    job = finish(make(study), errors=("Traceback",))
    before = files_below(job_folder(job))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))  # members.csv, the last table, is too large
    try:
        with pytest.raises(OSError, match="File too large"):
            finish_job(job, rows_of(job, 2, reason="because " * 500), [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    after = files_below(job_folder(job))
    assert {name: after[name] for name in before} == before
    assert has_failed(job_folder(job))
    finish(job)
    assert set(files_below(job_folder(job))) == set(before) - {"failed.json", "errors.txt"} | {"done.json"}


def test_tables_that_were_written_but_not_all_put_in_their_place_are_put_there_later(study, monkeypatch):
    job = finish(make(study), errors=("Traceback",))
    replace = os.replace

    def killed_at_the_last_table(source: Path, target: Path) -> None:
        if Path(target) == job_folder(job) / "members.csv":
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed_at_the_last_table)
        with pytest.raises(KeyboardInterrupt):
            finish_job(job, rows_of(job, 2), [])
    assert not is_finished(job)
    move_new_tables(job_folder(job))
    assert is_finished(job)
    assert {r["epoch"] for r in read_table(job_folder(job) / "epochs.csv")} == {"2"}
    assert not (job_folder(job) / "failed.json").exists()
