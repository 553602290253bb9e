"""logger=wandb while a study trains: its curves are there before its tables are, and nothing else notices."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from experiments.jobs.chunk import run_chunk
from experiments.loggers import live, watch
from experiments.loggers.chunk_log import ChunkLog, begin_logs
from experiments.loggers.process import wandb_environment
from experiments.loggers.run_record import study_run_id
from experiments.settings.logger import wandb_settings
from experiments.study.part import work_folder
from tests.experiments.loggers.test_wandb import OFFLINE
from tests.experiments.loggers.wandb_runs import (
    history,
    inspect,
    nobody_is_logged_in,  # noqa: F401
    run_folders,
    run_header,
    run_ids,
)
from tests.experiments.small import small_data
from tests.experiments.study.small_study import make

SINGLE = small_data()
WANDB = {"name": "wandb", "mode": "offline", "project": "variance-shift", "entity": None}
RECORDS = [
    {"epoch": epoch, "learning_rate": 0.1, "train_loss": [1.0 / epoch, 3.0 / epoch]} for epoch in (1, 2, 3)
]

pytestmark = pytest.mark.usefixtures("nobody_is_logged_in")


@contextmanager
def watching(study: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """The process that shows a study, as a command starts it, but it begins at once."""
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.loggers.watch", str(study), *more],
        env=wandb_environment(),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin
        process.stdin.write("{}\n")
        process.stdin.flush()
        yield process
    finally:
        _, said = process.communicate(timeout=60)  # of one that was killed it closes the pipes
        assert process.returncode in (0, -signal.SIGKILL), said


def waiting_for(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        # W&B's reader fails at a record that is only half written.
        with suppress(subprocess.CalledProcessError):
            if there():
                return
        time.sleep(0.2)
    raise AssertionError("not there after a minute")


def shown(study: Path) -> pd.DataFrame:
    """What is on disk of the live run."""
    folders = run_folders(study, "live-*")
    return history(folders[0]) if folders else pd.DataFrame()


@pytest.mark.long
def test_curves_are_there_while_training_goes_on_and_a_killed_command_leaves_no_second_run(tmp_path):
    job = make(tmp_path / "s", logger=WANDB)
    log = ChunkLog(job, job.members)
    log.add_epochs(RECORDS[:2])
    with watching(job.folder) as process:
        waiting_for(lambda: len(shown(job.folder)) == 2)
        assert process.poll() is None
        process.kill()
    with watching(job.folder) as process:
        waiting_for(lambda: len(shown(job.folder)) == 2)
        log.add_epochs(RECORDS)
        log.add_results(
            3,
            {
                "members.csv": [{"test_error": 10.0}, {"test_error": 20.0}],
                "layers.csv": [
                    {"layer_index": index, "shift_ratio": ratio}
                    for ratios in ([0.4, 0.6], [0.8, 1.0])
                    for index, ratio in enumerate(ratios, 1)
                ],
            },
        )
    assert process.returncode == 0
    assert len(run_folders(job.folder)) == 1
    curves = shown(job.folder)
    losses = curves.dropna(subset=["loss/no noise"])
    assert list(losses["x/epoch"]) == [1, 2, 3]
    assert list(losses["loss/no noise"]) == [2.0, 1.0, pytest.approx(2 / 3)]
    ratios = curves.dropna(subset=["shift/no noise"])
    assert list(ratios["x/layer"]) == [1, 2]
    assert list(ratios["shift/no noise"]) == [pytest.approx(0.6), pytest.approx(0.8)]
    (folder,) = run_folders(job.folder)
    assert inspect(folder)["summary"]["error/no noise"] == 15.0
    header = run_header(folder)
    assert (header["display_name"], header["job_type"], header["run_group"]) == ("s: live", "live", "s")


def test_the_run_of_a_killed_command_goes_though_its_service_still_writes(tmp_path):
    old = tmp_path / "wandb" / f"offline-run-20261130_000000-{study_run_id('live', tmp_path)}"
    old.mkdir(parents=True)
    end, written = time.monotonic() + 1, 0

    def write() -> None:
        nonlocal written
        with suppress(OSError):  # once it is gone
            while time.monotonic() < end:
                (old / str(written)).touch()
                written += 1

    service = threading.Thread(target=write)
    service.start()
    waiting_for(lambda: written > 500)
    watch.begin_live_run(tmp_path, wandb_settings(mode="offline")).finish()
    service.join()
    assert not old.exists()
    assert len(run_folders(tmp_path)) == 1


def test_what_a_chunk_logs_is_in_its_tables(tmp_path):
    members = {"dropout": {"rate": [0.5], "placement": ["before_bn"]}}
    job = make(tmp_path / "s", members, logger=WANDB, recipe__epochs=2)
    tables = {name: pd.DataFrame(rows) for name, rows in run_chunk(job, job.members, SINGLE).items()}
    rows = list(watch.Logs(job.folder, {job.name: "width 4"}).new_rows())
    logged = pd.DataFrame(rows)
    for noise, group in (("none", "no noise"), ("dropout", "before_bn dropout 0.5")):
        of_noise = {name: table[table.noise == noise] for name, table in tables.items()}
        losses = of_noise["epochs.csv"].groupby("epoch").train_loss.mean()
        curve = logged.dropna(subset=[f"loss/width 4 {group}"])
        assert list(curve["x/epoch"]) == list(losses.index) == [1, 2]
        assert list(curve[f"loss/width 4 {group}"]) == pytest.approx(list(losses))
        ratios = of_noise["layers.csv"].groupby("layer_index").shift_ratio.mean()
        curve = logged.dropna(subset=[f"shift/width 4 {group}"])
        assert list(curve["x/layer"]) == list(ratios.index) != []
        assert list(curve[f"shift/width 4 {group}"]) == pytest.approx(list(ratios))
        (error,) = logged[f"error/width 4 {group}"].dropna()
        assert error == pytest.approx(of_noise["members.csv"].test_error.mean())


def test_a_curve_is_that_of_one_chunk_and_goes_forward_though_its_process_begins_again(tmp_path):
    job = make(tmp_path / "s", logger=WANDB)
    first, second = ([member] for member in job.members)
    records = [[record | {"train_loss": [loss]} for record in RECORDS] for loss in (1.0, 2.0)]
    logs = watch.Logs(job.folder, {})
    ChunkLog(job, first).add_epochs(records[0][:2])
    assert [row["x/epoch"] for row in logs.new_rows()] == [1, 2]
    ChunkLog(job, second).add_epochs(records[1])
    ChunkLog(job, first)  # its process was killed: it begins again
    assert list(logs.new_rows()) == []
    ChunkLog(job, first).add_epochs(records[0])
    assert list(logs.new_rows()) == [{"x/epoch": 3, "loss/no noise": 1.0}]
    (file, _) = watch.log_files(job.folder)
    with file.open("a") as torn:
        torn.write('{"axis": "epoch", "at": 4, "lo')
    assert list(logs.new_rows()) == []
    begin_logs(job)
    assert watch.log_files(job.folder) == []


def test_diverged_members_are_in_no_mean_and_a_job_without_logger_logs_nothing(tmp_path):
    job = make(tmp_path / "s", logger=WANDB)
    nan = float("nan")
    log = ChunkLog(job, job.members)
    log.add_epochs([{"epoch": 1, "train_loss": [nan, 2.0]}, {"epoch": 2, "train_loss": [nan, nan]}])
    assert list(watch.Logs(job.folder, {}).new_rows()) == [{"x/epoch": 1, "loss/no noise": 2.0}]
    other = make(tmp_path / "other")
    ChunkLog(other, other.members).add_epochs(RECORDS)
    assert not (tmp_path / "other").exists()


def test_a_log_that_cannot_be_written_stops_no_training(tmp_path):
    job = make(tmp_path / "s", logger=WANDB)
    work_folder(job).mkdir(parents=True)
    (work_folder(job) / "live").touch()  # in the way of the folder
    assert run_chunk(job, job.members, SINGLE)["members.csv"]


def without_times(folder: Path) -> dict[str, pd.DataFrame]:
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in ("members", "layers", "epochs")}
    return {
        name: table.drop(columns=["seconds", "seconds_measuring"], errors="ignore")
        for name, table in tables.items()
    }


@pytest.mark.long
def test_numbers_are_the_same_with_and_without_and_the_live_run_is_gone_in_the_end(
    run, tmp_path, tiny, monkeypatch
):
    monkeypatch.setattr(live, "BEGINS_AFTER", 0)
    assert run(*tiny, *OFFLINE, "study=with").status == 0
    assert run(*tiny, *OFFLINE[1:], "study=without").status == 0
    ours, theirs = (without_times(tmp_path / "out" / name) for name in ("with", "without"))
    for name in ours:
        pd.testing.assert_frame_equal(ours[name], theirs[name], check_exact=True)
    study = tmp_path / "out" / "with"
    assert len(run_ids(study)) == 4
    assert not [name for name in run_ids(study) if name.startswith("live")]
    assert not (study / ".work").exists()


@pytest.mark.parametrize("fault", ["ends at once", "does not end"])
def test_whatever_shows_training_does_training_goes_on(tmp_path, monkeypatch, capfd, fault):
    job = make(tmp_path / "s", logger=WANDB)
    program = {"ends at once": "echo a server error >&2; exit 3", "does not end": "exec sleep 60"}[fault]
    broken = tmp_path / "python"
    broken.write_text(f"#!/bin/sh\n{program}\n")
    broken.chmod(0o755)
    monkeypatch.setattr(live, "sys", SimpleNamespace(executable=str(broken), stderr=sys.stderr))
    monkeypatch.setattr(live, "PATIENCE", 1)
    reached = []
    with live.shown_live(job, {job.name: ""}):
        time.sleep(0.3)
        reached.append(True)
    assert reached
    reason = {"ends at once": "a server error", "does not end": "no end within 1 s"}[fault]
    assert capfd.readouterr().err == f"W&B: training was not shown to its end ({reason})\n"
