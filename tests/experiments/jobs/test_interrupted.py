"""A command that is killed or interrupted: nothing is left running, and the same command goes on."""

import os
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from scripts.faults.command import workers
from tests.conftest import files_below
from tests.experiments.command_line import SWEEP, TIMES, started, tables, wait_for

on_linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc for processes")


def running(group: int) -> list[str]:
    """The command lines of all processes of a group that are alive."""
    alive = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                alive.append(stat.with_name("cmdline").read_text().replace("\0", " "))
        except OSError:  # it ended while we looked
            continue
    return alive


@on_linux
@pytest.mark.long
def test_a_killed_sweep_leaves_no_process_and_goes_on_where_it_was(tmp_path):
    arguments = [
        *SWEEP,
        "members.dropout.rate=[0.2]",
        "recipe.epochs=10",
        "processes=2",
        "model.width=4,8,12",
    ]
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    killed.mkdir()
    undisturbed.mkdir()
    study = killed / "outputs" / "variance_shift"
    with started(killed, *arguments) as process:
        wait_for(lambda: list(study.glob("jobs/*/done.json")) and list(study.glob(".work/*/new/config.yaml")))
        assert len(running(process.pid)) >= 2  # it and its server, if not workers yet
        process.kill()
        process.communicate()
    wait_for(lambda: not running(process.pid), seconds=10)
    assert len(list(study.glob("jobs/*/done.json"))) == 1
    first = {name: content for name, content in files_below(study).items() if name.endswith(".csv")}

    with started(killed, *arguments) as again, started(undisturbed, *arguments) as other:
        for process, message in (
            (again, "grow: 8 of 24 members are there; training 16\n"),
            (other, ""),
        ):
            _, err = process.communicate(timeout=120)
            assert process.returncode == 0
            assert err.startswith(message + "[1/")
    after = files_below(study)
    assert all(after[name] == content for name, content in first.items())
    assert set(files_below(undisturbed / "outputs" / "variance_shift")) == set(after)
    for one, two in zip(tables(study), tables(undisturbed / "outputs" / "variance_shift"), strict=True):
        drop = [column for column in TIMES if column in one]
        pd.testing.assert_frame_equal(one.drop(columns=drop), two.drop(columns=drop), check_exact=True)


@on_linux
@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "to_group", "status"),
    [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 143), (signal.SIGKILL, False, -signal.SIGKILL)],
)
def test_a_stopped_run_ends_at_once_with_its_workers_and_in_one_line(tmp_path, number, to_group, status):
    with started(tmp_path, "recipe.epochs=100000", "processes=2", "model.width=8") as process:
        wait_for(lambda: len(workers(process.pid)) == 2)
        time.sleep(1)
        (os.killpg if to_group else os.kill)(process.pid, number)
        out, err = process.communicate(timeout=10)
    assert process.returncode == status
    wait_for(lambda: not running(process.pid), seconds=5)
    assert out == ""
    if number == signal.SIGTERM:
        assert err == ""
    elif number == signal.SIGINT:
        assert err == "interrupted: what is finished is kept, and the same command goes on from there\n"


@on_linux
def test_ctrl_c_while_the_workers_server_gets_ready_prints_no_traceback(tmp_path):
    with started(tmp_path, "recipe.epochs=100000", "processes=2") as process:
        wait_for(lambda: any("forkserver" in line for line in running(process.pid)))
        time.sleep(0.3)  # it imports torch, for a second or more
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=10)
    # If it came within exec(), which dataclasses use, CPython ends by the signal itself; a shell sees 130 too.
    assert process.returncode in (130, -signal.SIGINT)
    assert out == ""
    assert err.splitlines()[-1].startswith("interrupted: ")
    assert "Traceback" not in err


@on_linux
@pytest.mark.long
def test_a_worker_that_is_killed_costs_nothing(tmp_path, run):
    arguments = [*SWEEP, "recipe.epochs=10", "model.width=8"]
    with started(tmp_path, *arguments, "processes=2") as process:
        wait_for(lambda: workers(process.pid))
        os.kill(workers(process.pid)[0], signal.SIGKILL)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "a worker process was killed" in err
    assert run(*arguments, "study=undisturbed", "processes=1").status == 0
    outputs = tmp_path / "outputs"
    for one, two in zip(tables(outputs / "variance_shift"), tables(outputs / "undisturbed"), strict=True):
        drop = [column for column in TIMES if column in one]
        pd.testing.assert_frame_equal(one.drop(columns=drop), two.drop(columns=drop), check_exact=True)


def test_what_a_killed_command_left_is_removed_by_the_next_one_unless_a_missing_member_needs_it(
    run, tmp_path, tiny, monkeypatch
):
    """Checkpoints are kept while their members are missing, whatever else is asked for; nothing else is."""
    from experiments.jobs import chunk, job

    def killed(*arguments):
        raise KeyboardInterrupt

    study = tmp_path / "out" / "first_look"
    for where, step, arguments, kept in (
        (chunk, "measure_train_mode", [], False),
        (chunk, "measure_train_mode", ["recipe.checkpoint_every=1"], True),
        (job, "finish_part", [], True),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(where, step, killed)
            assert run(*tiny, *arguments).status == 130
        assert run(*tiny, "model.width=4").status == 0
        assert bool(list(study.glob(".work/*"))) == bool(list(study.glob(".work/*/checkpoints/*")))
        assert (study / ".work").exists() == kept
    assert run(*tiny).status == 0
    assert not (study / ".work").exists()
    assert len(list(study.glob("jobs/*/done.json"))) == 2
