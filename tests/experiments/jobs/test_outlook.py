"""`--dry-run`: it says what a command would train and how long, checks what a run checks, and writes nothing."""

import re
import shutil
from time import process_time

import pytest
from filelock import FileLock

from experiments.jobs import estimate
from experiments.jobs.estimate import extrapolate
from experiments.jobs.job import run_job
from experiments.study.tables import read_table
from tests.conftest import files_below
from tests.experiments.command_line import plan
from tests.experiments.counting import count_calls
from tests.experiments.settings.test_launchers import needs
from tests.experiments.study.test_earlier import SAME, STUDY

SECONDS = r"about [\d,.]+ core seconds"


def test_it_tells_jobs_members_and_seconds_and_writes_nothing(run, tmp_path, tiny):
    ended = run("--dry-run", "-m", *tiny, "model.width=4,8")
    assert (ended.status, ended.err) == (0, "")
    first, second, in_all, seconds = ended.out.splitlines()
    assert re.fullmatch(rf"\[1/2\] width 4: 5 members, 0 there, 5 to train; {SECONDS} \(tried here\)", first)
    assert re.fullmatch(rf"\[2/2\] width 8: 5 members, 0 there, 5 to train; {SECONDS} \(tried here\)", second)
    assert in_all == "in all: 2 jobs, 10 members, 0 there, 10 to train in out/first_look"
    assert re.match(SECONDS, seconds)
    assert not list(tmp_path.iterdir())


def test_with_a_logger_it_writes_nothing_either(run, tmp_path, tiny):
    ended = run("--dry-run", *tiny, "logger=wandb")
    assert (ended.status, ended.err) == (0, "")
    assert not list(tmp_path.iterdir())


def test_members_there_say_how_long_the_others_take(run, tmp_path, tiny):
    assert run(*tiny).status == 0
    before = files_below(tmp_path)
    rows = read_table(tmp_path / "out" / "first_look" / "members.csv")
    each = sum(float(row["seconds"]) for row in rows) / len(rows)
    ended = run("--dry-run", *tiny, "members.seed=[0,1,2]")
    line = ended.out.splitlines()[0]
    assert line.startswith("[1/1] digits mlp width 8: 15 members, 5 there, 10 to train; about ")
    assert line.endswith("core seconds (as those there took)")
    told = float(re.search(r"about ([\d,.]+)", line)[1])  # type: ignore[index]
    assert told == pytest.approx(10 * each, rel=0.5)  # to a digit or two
    assert run("--dry-run", *tiny).out.splitlines()[0] == (
        "[1/1] digits mlp width 8: 5 members, 5 there, 0 to train"
    )
    assert files_below(tmp_path) == before


def test_a_try_is_near_what_training_takes(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (job,) = plan(*tiny, "recipe.epochs=20", "model.width=32").jobs
    told = estimate._try_members(job, estimate.BUDGET) * len(job.members)
    begin = process_time()
    run_job(job)
    took = process_time() - begin
    assert took / 4 < told < took * 4


@pytest.mark.parametrize(
    "wrong",
    [
        ["recipe.lr=-1"],
        ["modle.width=3"],
        ["recipe.batch_size=2000"],
        ["recipe.momentum=0.5"],  # the study there has another
        ["hydra.run.dir=/dev/null/x"],
        ["model=preresnet"],
    ],
)
def test_it_refuses_what_a_run_refuses_with_the_same_line(run, tiny, tmp_path, wrong):
    assert run(*tiny).status == 0
    before = files_below(tmp_path)
    refused = run("--dry-run", *tiny, *wrong)
    assert (refused.status, refused.out) == (2, "")
    assert refused.err == run(*tiny, *wrong).err
    assert files_below(tmp_path) == before


def test_it_refuses_a_study_that_another_process_is_at_work_on(run, tiny, tmp_path):
    assert run(*tiny).status == 0
    with FileLock(tmp_path / "out" / "first_look" / ".lock"):
        refused = run("--dry-run", *tiny)
        assert refused.err == run(*tiny).err
    assert (refused.status, refused.out) == (2, "")
    assert "another process is at work in out/first_look" in refused.err


def test_it_refuses_numbers_of_another_version(run, tiny, monkeypatch):
    assert run(*tiny).status == 0
    for module in ("admission", "part"):
        monkeypatch.setattr(f"experiments.study.{module}.NUMBERS_VERSION", 99)
    grown = [*tiny, "members.seed=[0,1]"]
    refused = run("--dry-run", *grown)
    assert (refused.status, refused.err) == (2, run(*grown).err)
    assert "job.mix_versions=false" in refused.err


def test_it_fetches_no_data(run, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.data.fetch.place", lambda *_: pytest.fail("it fetches"))
    refused = run("--dry-run", *tiny, "data=cifar10")
    root = tmp_path / "data"
    assert (refused.status, refused.out) == (2, "")
    assert refused.err == f"error: data.root={root}: cifar10 is not there; the command fetches it first\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [pytest.param("slurm", marks=needs("slurm"))])
def test_it_tells_how_many_jobs_a_cluster_is_handed(run, tiny, tmp_path, name):
    ended = run("--dry-run", "-m", *tiny, "model.width=4,8", "job.shards=2", f"hydra/launcher={name}")
    *jobs, in_all, _, handed = ended.out.splitlines()
    assert [line.partition(":")[0] for line in jobs] == [
        "[1/4] width 4, shard 1", "[2/4] width 4, shard 2", "[3/4] width 8, shard 1", "[4/4] width 8, shard 2",
    ]  # fmt: skip
    assert in_all == "in all: 4 jobs, 10 members, 0 there, 10 to train in out/first_look"
    assert re.match(
        r"hydra/launcher=slurm is handed 4 jobs; the longest, width \d, shard \d, takes about", handed
    )
    assert "and 1 noise-free beside them" in "".join(jobs)
    assert not list(tmp_path.iterdir())


def test_a_study_of_an_earlier_version_is_read_and_left_as_it_is(run, tmp_path):
    shutil.copytree(STUDY, tmp_path / "outputs" / "earlier")
    before = files_below(tmp_path)
    ended = run("--dry-run", *SAME)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines()[-1] == "in all: 2 jobs, 12 members, 12 there, 0 to train in outputs/earlier"
    assert files_below(tmp_path) == before


def test_of_many_settings_a_few_are_tried(run, tiny, monkeypatch):
    monkeypatch.setattr(estimate, "BUDGET", 0.1)
    tries = count_calls(monkeypatch, estimate, "_try_members")
    ended = run("--dry-run", "-m", *tiny, "model.width=2,3,4,5,6", "job.shards=2")
    assert ended.status == 0
    assert tries["_try_members"] == estimate.MOST_TRIES
    lines = ended.out.splitlines()[:10]
    assert sum("(tried here)" in line for line in lines) == 2 * estimate.MOST_TRIES
    assert sum("(from a try of another job)" in line for line in lines) == 2 * (5 - estimate.MOST_TRIES)


@pytest.mark.parametrize(
    ("tries", "steps", "expected"),
    [
        ([(1, 3.0), (4, 6.0)], 100, 102.0),  # a second each, beside two
        ([(1, 9.0), (4, 5.0), (16, 17.0)], 16, 17.0),
        ([(1, 5.0), (4, 4.0)], 8, 4.0),  # noise alone
        ([(1, 3.0)], 10, 30.0),  # more would take too long to try
        ([(1, 0.1), (4, 8.0)], 8, 16.0),  # nothing is negative where there are no steps
    ],
)
def test_more_steps_take_what_each_takes_beside_what_all_take_once(tries, steps, expected):
    assert extrapolate(tries, steps) == pytest.approx(expected)
