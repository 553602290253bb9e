"""A part of a study: when its members are there, what damages it, and who may work on it."""

import fcntl
import json
import os
import resource
import shutil
import threading
import time
from dataclasses import replace

import pytest

from experiments.study.earlier import settle
from experiments.study.inventory import take_inventory
from experiments.study.locks import part_lock
from experiments.study.merge import merge_tables
from experiments.study.part import (
    finish_part,
    is_damaged,
    part_folder,
    read_job,
    read_part,
    recorded_data,
    start_part,
    work_folder,
    write_record,
)
from experiments.study.tables import read_table
from tests.conftest import files_below
from tests.experiments.study.small_study import finish, is_there, make, rows_of


def test_members_are_there_once_their_part_is_in_its_place(study):
    job = make(study)
    assert not is_there(job)
    start_part(job)
    assert not is_there(job)
    finish(job)
    assert is_there(job)
    assert {path.name for path in part_folder(job).iterdir()} == {
        "config.yaml", "environment.json", "members.csv", "layers.csv", "epochs.csv", "done.json",
    }  # fmt: skip
    assert not list(work_folder(job).iterdir())


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
        lambda folder: (folder / "done.json").write_text(
            (folder / "done.json").read_text().replace("none", "nome", 1)
        ),
    ],
)
def test_the_members_of_a_damaged_part_are_not_there_until_they_are_trained_again(study, damage):
    job = finish(make(study))
    damage(part_folder(job))
    assert not is_there(job)
    assert is_damaged(part_folder(job))
    inventory = take_inventory(study)
    assert (inventory.parts, inventory.damaged) == ([], [part_folder(job)])
    assert is_there(finish(job))
    assert not is_damaged(part_folder(job))


def test_the_folder_of_another_part_in_place_of_one_is_not_believed(study):
    job, other = finish(make(study)), finish(make(study, model__width=99))
    shutil.rmtree(part_folder(job))
    shutil.copytree(part_folder(other), part_folder(job))
    assert is_damaged(part_folder(job))
    assert not is_there(job)
    assert is_there(other)
    assert is_there(finish(job))


def test_members_of_a_noise_that_this_version_does_not_know_are_not_there(study):
    job = finish(make(study))
    part = read_part(part_folder(job))
    assert part
    foreign = replace(part, finished=[replace(member, noise="cauchy") for member in part.finished])
    write_record(part.folder, foreign, None, None)
    assert read_part(part.folder) is None
    assert not is_there(job)


def test_a_part_records_the_data_that_it_was_trained_on(study):
    job = make(study)
    assert recorded_data(part_folder(job)) is None
    finish(job, fingerprint="1 files")
    assert recorded_data(part_folder(job)) == ("digits", "1 files")


@pytest.mark.parametrize("name", ["1e3", "2024-01-01", "yes", "null", "0x1f", "1_000", "Größe", "plain"])
def test_a_job_is_read_back_as_it_was_whatever_its_study_is_called(tmp_path, name):
    job = make(tmp_path / name, recipe__lr=1e-05, recipe__scaled_down=f"{name}: 'a' \"b\" # c")
    assert read_job(part_folder(finish(job))) == job


def test_members_that_did_not_finish_are_missing_and_the_others_there(study):
    job = make(study)
    failed, _ = job.members
    finish(job, [failed], errors=("Traceback: first", "Traceback: second"))
    inventory = take_inventory(study)
    assert inventory.missing(job) == inventory.to_train(job).members == [failed]
    assert inventory.to_train(make(study, job={"retry": "none"})).members == []
    assert inventory.damaged == []
    assert (part_folder(job) / "errors.txt").read_text() == "Traceback: first\nTraceback: second"
    merge_tables(inventory)
    assert [row["status"] for row in read_table(study / "members.csv")] == ["failed", "ok"]

    # Trained again, each is shown once.
    finish(inventory.to_train(job), epoch=2)
    assert is_there(job)
    merge_tables(take_inventory(study))
    assert [(row["status"], row["steps"]) for row in read_table(study / "members.csv")] == [
        ("ok", "2"),
        ("ok", "1"),
    ]
    assert [row["epoch"] for row in read_table(study / "epochs.csv")] == ["2", "1"]


def test_the_environment_of_a_job_is_recorded(study):
    job = finish(make(study))
    environment = json.loads((part_folder(job) / "environment.json").read_text())
    assert {"command", "git_commit", "python", "packages", "machine", "processor", "cores"} <= set(
        environment
    )
    assert {"torch", "numpy", "hydra-core"} <= set(environment["packages"])


def test_a_part_that_is_made_elsewhere_is_waited_for(study, capsys):
    work = work_folder(make(study))
    with part_lock(work):
        pass
    assert capsys.readouterr().err == ""
    elsewhere = (work / ".lock").open("w")
    fcntl.flock(elsewhere, fcntl.LOCK_EX)
    threading.Timer(0.3, elsewhere.close).start()
    begin = time.monotonic()
    with part_lock(work):
        assert time.monotonic() - begin > 0.2
    assert capsys.readouterr().err == f"{work.name}: another process is at work on it; waiting for its end\n"


def test_what_cannot_be_looked_at_is_not_taken_for_missing(study):
    job = finish(make(study))
    for path in (part_folder(job) / "done.json", part_folder(job).parent):
        elsewhere = path.rename(study / "elsewhere")
        path.symlink_to(path.name)  # a loop
        with pytest.raises(OSError, match="Too many levels of symbolic links"):
            take_inventory(study)
        path.unlink()
        elsewhere.rename(path)
    assert is_there(job)


def test_a_full_disk_costs_a_part_that_is_made_again_nothing_of_what_it_holds(study):
    job = make(study)
    finish(job, job.members, errors=("Traceback",))
    before = files_below(part_folder(job))
    start_part(job)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))  # members.csv, the last table, is too large
    rows = rows_of(job)
    rows["members.csv"][0]["reason"] = "because " * 500
    try:
        with pytest.raises(OSError, match="File too large"):
            finish_part(job, rows)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files_below(part_folder(job)) == before
    finish(job)
    assert set(files_below(part_folder(job))) == set(before) - {"failed.json", "errors.txt"} | {"done.json"}


@pytest.mark.parametrize("killed_at", ["rmtree", "rename"])
def test_a_part_that_was_written_but_not_put_in_its_place_is_put_there_later(study, monkeypatch, killed_at):
    job = make(study)
    finish(job, job.members, errors=("Traceback",))

    def killed(*arguments, **others):
        raise KeyboardInterrupt

    start_part(job)
    with monkeypatch.context() as patch:
        patch.setattr(*{"rmtree": (shutil, "rmtree"), "rename": (os, "rename")}[killed_at], killed)
        with pytest.raises(KeyboardInterrupt):
            finish_part(job, rows_of(job, 2))
    assert not is_there(job)
    settle(study)
    assert is_there(job)
    assert {r["epoch"] for r in read_table(part_folder(job) / "epochs.csv")} == {"2"}
    assert not (part_folder(job) / "failed.json").exists()
