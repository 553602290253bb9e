"""logger.mode=online against a server on the loopback: what arrives, and that no failure of it costs a row."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from experiments.loggers import live
from experiments.loggers.chunk_log import ChunkLog
from tests.experiments.loggers.test_live import RECORDS, WANDB, waiting_for, watching
from tests.experiments.loggers.wandb_runs import inspect, nobody_is_logged_in, run_folders, run_ids  # noqa: F401
from tests.experiments.loggers.wandb_server import KEY, Server, serving
from tests.experiments.study.small_study import make
from tests.places import ROOT

ONLINE = ["logger=wandb", "logger.mode=online", "members.dropout.rate=[0.5]", "recipe.epochs=2"]

pytestmark = pytest.mark.usefixtures("nobody_is_logged_in")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(
        live, "BEGINS_AFTER", 3600
    )  # on a busy machine training may take longer than a minute
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        # The server is near: a second attempt need not wait.
        for name in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER"):
            monkeypatch.setenv(f"WANDB_X_{name}_RETRY_WAIT_MIN_SECONDS", "0.1")
            monkeypatch.setenv(f"WANDB_X_{name}_RETRY_WAIT_MAX_SECONDS", "0.2")
        yield server


def members_of(study: Path) -> pd.DataFrame:
    members = pd.read_csv(study / "members.csv")
    assert len(members) == 3
    assert (members.status == "ok").all()
    return members


def export(study: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.export_wandb", str(study), *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.long
def test_every_member_arrives_once_with_the_values_of_the_tables(run, tmp_path, tiny, server):
    ended = run(*tiny, *ONLINE, "logger.project=shift of variance", "logger.entity=team")
    assert ended.status == 0
    assert "W&B" not in ended.err
    study = tmp_path / "out" / "first_look"
    members = members_of(study)
    assert sorted(server.runs) == run_ids(study)
    assert len(server.runs) == 4
    for arrived in server.runs.values():
        assert arrived.beginnings == 1
        assert arrived.attributes["groupName"] == "first_look"
        assert (arrived.attributes["project"], arrived.attributes["entity"]) == (
            "shift of variance",
            "tester",
        )
        assert any("media/table" in name for name in arrived.files)
    for _, member in members.iterrows():
        (arrived,) = [
            run for run in server.runs.values() if run.attributes["jobType"] == (member.placement or "none")
        ]
        assert arrived.attributes["displayName"].endswith("seed 0")
        assert arrived.summary["test_error"] == member.test_error
        losses = [row["training/train_loss"] for row in arrived.history.values() if "x/epoch" in row]
        assert losses == list(epochs_of(study, member.placement).train_loss)
    (tables,) = server.artifacts.committed().values()
    assert (tables.name, tables.kind) == ("first_look-tables", "tables")
    assert server.runs[tables.run].attributes["jobType"] == "report"
    assert tables.files == {path.name: path.read_bytes() for path in study.glob("*.csv")}

    # What has arrived is not sent again; what is sent again does not become another run.
    assert run(*tiny, *ONLINE, "logger.project=shift of variance", "logger.entity=team").status == 0
    assert {arrived.beginnings for arrived in server.runs.values()} == {1}
    for mark in study.glob("wandb/*/*.synced"):
        mark.unlink()
    again = export(study, "--online", "--project", "shift of variance", "--entity", "team")
    assert again.stdout.startswith(f"4 runs in {study / 'wandb'}: 0 written now, 4 uploaded now"), (
        again.stderr
    )
    assert len(server.runs) == 4
    assert {arrived.beginnings for arrived in server.runs.values()} == {2}
    assert list(server.artifacts.versions.values()) == [tables]


def epochs_of(study: Path, placement: str) -> pd.DataFrame:
    epochs = pd.read_csv(study / "epochs.csv", keep_default_na=False)
    return epochs[epochs.placement == placement]


@pytest.mark.long
@pytest.mark.parametrize("fault", ["breaks", "drops", "keeps no files"])
def test_a_server_that_fails_costs_one_line_and_no_row(run, tmp_path, tiny, server, fault, monkeypatch):
    check_login = live.check_login

    def check_login_then_fail(job):
        check_login(job)
        server.fault = fault

    monkeypatch.setattr(live, "check_login", check_login_then_fail)
    ended = run(*tiny, *ONLINE)
    assert ended.status == 0
    (line,) = [line for line in ended.err.splitlines() if line.startswith("W&B: ")]
    assert "runs are not uploaded" in line
    assert "Traceback" not in ended.err
    assert len(ended.err.splitlines()) == 2  # beside the job's end
    study = tmp_path / "out" / "first_look"
    members_of(study)
    assert not list(study.glob("wandb/*/*.synced"))

    # The command that the line names makes up for it.
    server.fault = None
    command = shlex.split(line.rpartition(": ")[2])
    assert command[:3] == ["python", "-m", "scripts.export_wandb"]
    assert export(study, *command[4:]).returncode == 0
    assert sorted(server.runs) == run_ids(study)
    assert all(arrived.summary and arrived.history and arrived.files for arrived in server.runs.values())
    assert set(server.artifacts.committed()) == {"first_look-tables"}


def test_a_refused_key_is_found_before_training_and_a_silent_server_is_not_waited_for(
    run, tmp_path, tiny, server
):
    server.fault = "refuses"
    ended = run(*tiny, *ONLINE)
    assert ended.status == 2
    assert ended.err.startswith("error: logger.mode=online: W&B refuses the key (")
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_killed_while_logging_the_tables_are_whole_and_the_same_command_makes_the_runs(run, tmp_path, tiny):
    arguments = [*tiny, "logger=wandb", "members.dropout.rate=[0.1,0.2,0.3,0.4,0.5,0.6,0.7]"]
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.run", *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    study = tmp_path / "out" / "first_look"
    end = time.monotonic() + 120
    try:
        while len(run_folders(study)) < 2:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.005)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    complete = list(study.glob("wandb/*/record.sha256"))
    assert 0 < len(run_folders(study)) < 15
    assert len(complete) < 15
    (job,) = study.glob("jobs/*")
    tables = {path.name: path.read_bytes() for path in job.glob("*.csv")}
    assert (job / "done.json").exists()

    for _ in range(3):  # on a busy machine W&B's own service fails at times, which one line says
        ended = run(*arguments)
        assert ended.status == 0
        assert "grow: all 15 members are there" in ended.err
        assert {path.name: path.read_bytes() for path in job.glob("*.csv")} == tables
        if "W&B: " not in ended.err:
            break
    assert len(run_ids(study)) == len(set(run_ids(study))) == 16, ended.err
    assert len(list(study.glob("wandb/*/record.sha256"))) == 16
    replaced = [folder for folder in run_folders(study) if folder / "record.sha256" not in complete]
    assert inspect(replaced[0])["state"] == "finished"


@pytest.mark.long
def test_online_the_curves_arrive_while_training_goes_on_in_one_run_a_study(tmp_path, server):
    job = make(tmp_path / "s", logger=WANDB)
    log = ChunkLog(job, job.members)
    log.add_epochs(RECORDS[:2])

    def losses() -> list[float]:
        runs = [run for name, run in server.runs.items() if name.startswith("live-s-")]
        return [row["loss/no noise"] for run in runs for row in run.history.values()]

    with watching(job.folder, "--online") as process:
        waiting_for(lambda: losses() == [2.0, 1.0])
        process.kill()
    with watching(job.folder, "--online") as process:
        waiting_for(
            lambda: len(server.runs) == 1 and max(run.beginnings for run in server.runs.values()) == 2
        )
        log.add_epochs(RECORDS)
    assert process.returncode == 0
    assert losses() == [2.0, 1.0, pytest.approx(2 / 3)]
    assert not list(job.folder.glob("wandb/*run-*"))
