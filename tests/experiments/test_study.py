"""A study's folder: what is finished, what may join, and what a merged table holds."""

import copy
import fcntl
import json
import threading
import time
from pathlib import Path

import pytest

from experiments.checks import ConfigError
from experiments.config import Job, make_job
from experiments.members import Member
from experiments.plan import Plan
from experiments.study import (
    check_study,
    finish_job,
    is_damaged,
    is_finished,
    job_folder,
    job_lock,
    merge_tables,
    start_job,
)
from experiments.tables import EPOCH_COLUMNS, LAYER_COLUMNS, MEMBER_COLUMNS, read_table
from tests.conftest import files_below
from tests.experiments.small import small_job

SEEDS = {"seed": [0, 1]}
TABLES = ("members.csv", "layers.csv", "epochs.csv")


def make(folder: Path, members: dict | None = None, **changes: object) -> Job:
    """A small job in the study `folder`; changes are dotted keys with __ for the dots."""
    config = copy.deepcopy(small_job({"none": True} | SEEDS | (members or {})).config)
    config |= {"output": str(folder.parent), "study": folder.name}
    for dotted, value in changes.items():
        *sections, key = dotted.split("__")
        section = config
        for name in sections:
            section = section[name]
        section[key] = value
    return make_job(config)


def row(job: Job, member: Member) -> dict:
    return {"job": job.name, "width": job.config["model"]["width"], "seed": member.seed}


def finish(job: Job, errors: tuple[str, ...] = ()) -> Job:
    """Write a job's folder with a row for each member."""
    start_job(job)
    rows = [row(job, member) for member in job.members]
    tables = {
        "members.csv": [r | {"status": "ok"} for r in rows],
        "layers.csv": [r | {"layer_index": 1} for r in rows],
        "epochs.csv": [r | {"epoch": 1} for r in rows],
    }
    finish_job(job, tables, errors)
    return job


def plan(*jobs: Job, swept: tuple[str, ...] = ()) -> Plan:
    return Plan(list(jobs), list(swept))


def refusal(planned: Plan) -> str:
    """The line with which a plan is refused; refusing changes nothing."""
    before = files_below(planned.folder)
    with pytest.raises(ConfigError) as raised:
        check_study(planned)
    assert files_below(planned.folder) == before
    return str(raised.value)


@pytest.fixture
def study(tmp_path) -> Path:
    return tmp_path / "study"


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


def test_tables_of_all_jobs_become_one_in_an_order_that_time_does_not_change(study):
    jobs = [make(study, model__width=width) for width in (20, 8, 100)]
    for job in jobs:
        finish(job)
    assert merge_tables(study) == []
    first = files_below(study)
    members, layers, epochs = (read_table(study / name) for name in TABLES)
    expected = [(job.name, str(seed)) for job in sorted(jobs, key=lambda job: job.name) for seed in (0, 1)]
    for table, columns in ((members, MEMBER_COLUMNS), (layers, LAYER_COLUMNS), (epochs, EPOCH_COLUMNS)):
        assert [(r["job"], r["seed"]) for r in table] == expected
        assert list(table[0]) == list(columns)
    for job in reversed(jobs):
        finish(job)
    merge_tables(study)
    again = files_below(study)
    assert all(again[name] == first[name] for name in TABLES)


def test_unfinished_and_damaged_jobs_do_not_reach_the_merged_tables(study):
    whole, damaged, begun = (make(study, model__width=width) for width in (8, 16, 32))
    finish(whole)
    finish(damaged)
    start_job(begun)
    (job_folder(damaged) / "layers.csv").write_text("cut")
    assert merge_tables(study) == [damaged.name]
    for table in TABLES:
        assert {r["job"] for r in read_table(study / table)} == {whole.name}


def test_the_environment_of_a_job_is_recorded(study):
    job = finish(make(study))
    environment = json.loads((job_folder(job) / "environment.json").read_text())
    assert {"command", "git_commit", "python", "packages", "machine", "processor", "cores"} <= set(
        environment
    )
    assert {"torch", "numpy", "hydra-core"} <= set(environment["packages"])


def test_a_new_study_and_the_same_jobs_again_are_welcome(study):
    job = make(study)
    check_study(plan(job))
    assert not study.exists()
    finish(job)
    check_study(plan(job))


def test_another_architecture_or_data_set_joins(study):
    finish(make(study))
    sizes = {"features": 8, "classes": 2, "train_size": 99, "test_size": 9, "seed": 0}
    moments = {"mean": 0.0, "variance": 1.0, "correlation": 0.0}
    for changes in (
        {"model__width": 99},
        {"model__depth": 2},
        {"data": {"name": "gaussian", **sizes, **moments}},
    ):
        check_study(plan(make(study, **changes)))


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"recipe__lr": 0.2}, ["recipe.lr=0.1", "recipe.lr=0.2"]),
        ({"recipe__epochs": 3}, ["recipe.epochs=2", "recipe.epochs=3"]),
        ({"members__seed": [0, 1, 2]}, ["members.seed=[0, 1]", "members.seed=[0, 1, 2]"]),
        (
            {"members__none": False, "members__uout": {"beta": [1], "placement": ["before_bn"]}},
            ["members.none=true"],
        ),
        ({"members__lr": [0.3]}, ["members.lr=null", "members.lr=[0.3]"]),
        ({"measure__draws": 5}, ["measure.draws=1", "measure.draws=5"]),
    ],
    ids=str,
)
def test_what_the_rows_do_not_tell_apart_is_refused_with_key_old_and_new_value(study, changes, parts):
    finish(make(study, model__width=8))
    for other in ({}, {"model__width": 8}):  # whether the width differs too makes no difference
        line = refusal(plan(make(study, **changes | other)))
        assert line.startswith("study=study: ")
        assert all(part in line for part in [*parts, "choose another study=NAME"])
    check_study(plan(make(study.with_name("other"), **changes)))


def test_another_part_of_the_same_data_set_is_refused(study):
    cifar = {"name": "cifar10", "root": "data", "download": False, "train_size": 100, "test_size": None}
    finish(make(study, data=cifar))
    check_study(plan(make(study, data=cifar | {"root": "/elsewhere"}, model__width=9)))
    line = refusal(plan(make(study, data=cifar | {"train_size": 200})))
    assert "data.train_size=100" in line
    assert "data.train_size=200" in line


def test_what_this_command_sweeps_may_differ(study):
    finish(make(study, recipe__lr=0.1))
    jobs = [make(study, recipe__lr=lr) for lr in (0.2, 0.3)]
    check_study(plan(*jobs, swept=("recipe.lr",)))
    assert "recipe.lr=0.1" in refusal(plan(*jobs, swept=("recipe.l",)))
    check_study(plan(*jobs, swept=("recipe",)))


def test_members_that_the_study_holds_already_are_refused(study):
    finish(make(study))
    check_study(plan(make(study, members__seed=[2]), make(study, members__seed=[3]), swept=("members.seed",)))
    line = refusal(
        plan(make(study, members__seed=[1, 2]), make(study, members__seed=[3]), swept=("members.seed",))
    )
    assert "some of the members" in line


def test_a_job_that_left_no_table_binds_nobody(study):
    start_job(make(study))
    check_study(plan(make(study, recipe__lr=0.2)))


@pytest.mark.parametrize("content", ["", "a: [", "- 1", "data: {name: digits}", "\0"])
def test_a_configuration_of_another_version_is_refused(study, content):
    job = finish(make(study))
    (job_folder(job) / "config.yaml").write_text(content)
    line = refusal(plan(make(study, model__width=99)))
    assert "config.yaml is none of this version's" in line


def test_an_output_that_cannot_be_written_is_refused_and_a_probe_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("text")
    for output in (tmp_path / "file", tmp_path / "file" / "deeper", Path("/proc"), Path("/proc/self/deeper")):
        line = refusal(plan(make(output / "study")))
        assert line.startswith(f"output={output}: allowed is a folder that can be written")
    (tmp_path / "study").write_text("a file where the folder should be")
    assert refusal(plan(make(tmp_path / "study"))).startswith(f"output={tmp_path}: ")
    check_study(plan(make(tmp_path / "new" / "deeper" / "study")))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "study"]


def test_a_job_that_runs_elsewhere_is_waited_for(study, capsys):
    job = make(study)
    with job_lock(job):
        pass
    assert capsys.readouterr().err == ""
    elsewhere = (job_folder(job) / ".lock").open("w")
    fcntl.flock(elsewhere, fcntl.LOCK_EX)
    threading.Timer(0.3, elsewhere.close).start()
    begin = time.monotonic()
    with job_lock(job):
        assert time.monotonic() - begin > 0.2
    assert capsys.readouterr().err == (f"{job.name}: another process is at work on it; waiting for its end\n")
