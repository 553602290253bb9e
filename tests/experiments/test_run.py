"""The command line as users type it: what it writes and prints, where it goes on, how it stops."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

from scripts.faults.command import workers
from tests.conftest import IDENTITY, files_below

ROOT = Path(__file__).parents[2]
TABLES = ["members.csv", "layers.csv", "epochs.csv"]
TIMES = ["seconds", "seconds_measuring"]
SWEEP = [
    "+sweep=variance_shift", "members.seed=[0,1]", "members.dropout.rate=[0.2,0.4]",
    "members.uout=null", "members.gaussian=null",
]  # fmt: skip
on_linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc for processes")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "experiments.run", *arguments]


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[subprocess.Popen]:
    """The command line in `folder`, the leader of a process group of its own."""
    process = subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


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


def wait_for(condition, seconds: float = 60.0) -> None:
    """Wait until `condition()` is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def tables(study: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    return pd.read_csv(study / "members.csv"), pd.read_csv(study / "layers.csv")


@pytest.mark.long
def test_a_sweep_writes_its_tables_resumes_and_grows(tmp_path, run):
    arguments = [*SWEEP, "recipe.epochs=2", "study=wide", "processes=2"]
    with started(tmp_path, *arguments, "model.width=8,16") as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    study = tmp_path / "outputs" / "wide"

    # Nothing is written but the study, and nothing there but what it documents.
    jobs = sorted(path.name for path in (study / "jobs").iterdir())
    assert len(jobs) == 2
    expected = {"outputs", "outputs/wide", "outputs/wide/jobs", *(f"outputs/wide/jobs/{job}" for job in jobs)}
    expected |= {f"outputs/wide/{name}" for name in (*TABLES, "environment.json")}
    expected |= {"outputs/wide/multirun.yaml", "outputs/wide/.lock"}
    for job in jobs:
        names = (*TABLES, "environment.json", "config.yaml", "done.json", ".lock")
        expected |= {f"outputs/wide/jobs/{job}/{name}" for name in names}
    written = files_below(tmp_path)
    assert set(written) == expected

    # 2 widths, 2 seeds, of no noise and 2 rates at 3 placements; 3 layers each.
    members, layers = tables(study)
    assert len(members) == 2 * 2 * (1 + 2 * 3)
    assert len(layers) == 3 * len(members)
    assert list(members.columns[:10]) == list(layers.columns[:10]) == IDENTITY
    assert not members.duplicated(IDENTITY).any()
    assert set(members.width) == {8, 16}
    assert set(members.strength) == {0, 0.2, 0.4}
    assert (members.status == "ok").all()
    assert (members.steps == 2 * (1437 // 64)).all()
    assert members.test_error.between(0, 100).all()
    assert (layers.shift_ratio > 0).all()

    # The end of the output: the table, what became of the members, and where everything is.
    lines = out.splitlines()
    assert [line.split()[:3] for line in lines if line.startswith("before_weight")] == [
        ["before_weight", "dropout", "0.2"],
        ["before_weight", "dropout", "0.4"],
    ]
    assert lines[-3:] == [
        "28 members ok",
        "tables: outputs/wide/members.csv, outputs/wide/layers.csv, outputs/wide/epochs.csv",
        "report: python -m analysis.report outputs/wide",
    ]
    assert len(err.splitlines()) == 2 * len(jobs)
    assert all(any(line.startswith(f"{job}: 14 members") for line in err.splitlines()) for job in jobs)

    # The same command again trains nothing and changes nothing.
    again = run(*arguments, "model.width=8,16")
    assert (again.status, again.out) == (0, out)
    assert again.err == "2 of 2 jobs are finished already in outputs/wide\n"
    assert files_below(tmp_path) == written

    # A new width joins; what was there stays as it was.
    grown = run(*arguments, "model.width=8,16,4", "processes=1")
    assert grown.status == 0
    assert "2 of 3 jobs are finished already in outputs/wide" in grown.err
    assert "width8-" not in grown.err.replace("finished already", "")
    after = files_below(tmp_path)
    assert {name for name in written if after[name] != written[name]} == {
        f"outputs/wide/{name}" for name in (*TABLES, "environment.json", "multirun.yaml")
    }
    assert set(tables(study)[0].width) == {4, 8, 16}
    old_lines = written["outputs/wide/members.csv"].splitlines()
    assert set(old_lines) < set(after["outputs/wide/members.csv"].splitlines())

    # Another recipe does not.
    other = run(*arguments, "model.width=8", "recipe.lr=0.05")
    assert other.status == 2
    assert other.err == (
        "error: study=wide: outputs/wide holds results of recipe.lr=0.1, this command has recipe.lr=0.05; "
        "choose another study=NAME\n"
    )
    assert files_below(tmp_path) == after

    # A table that somebody cut is noticed, and its job runs again with the same result.
    cut = study / "jobs" / jobs[0] / "layers.csv"
    cut.write_bytes(cut.read_bytes()[:1000])
    mended = run(*arguments, "model.width=8,16,4", "processes=1")
    assert mended.status == 0
    assert f"{jobs[0]}: its tables are not as they were written; it runs again" in mended.err
    assert f"{jobs[1]}:" not in mended.err
    assert_same_results(study, after, "outputs/wide")


def assert_same_results(study: Path, files: dict[str, bytes], prefix: str) -> None:
    """Check that a study's tables are those among `files`, except for the time that members took."""
    for table, left_out in (("members.csv", TIMES), ("layers.csv", []), ("epochs.csv", [])):
        expected = study / f"expected-{table}"
        expected.write_bytes(files[f"{prefix}/{table}"])
        before, now = pd.read_csv(expected), pd.read_csv(study / table)
        expected.unlink()
        # Chunks of other sizes add up in another order.
        pd.testing.assert_frame_equal(
            now.drop(columns=left_out), before.drop(columns=left_out), rtol=1e-3, atol=1e-4
        )


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
        wait_for(lambda: len(list(study.glob("jobs/*/config.yaml"))) == 2)
        assert len(running(process.pid)) >= 2  # it and its server, if not workers yet
        process.kill()
        process.communicate()
    wait_for(lambda: not running(process.pid), seconds=10)
    assert len(list(study.glob("jobs/*/done.json"))) == 1
    first = {name: content for name, content in files_below(study).items() if name.endswith(".csv")}

    with started(killed, *arguments) as again, started(undisturbed, *arguments) as other:
        for process, message in (
            (again, "1 of 3 jobs are finished already in outputs/variance_shift\n"),
            (other, ""),
        ):
            _, err = process.communicate(timeout=120)
            assert process.returncode == 0
            assert err.startswith(message + "digits-mlp-width")
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
        wait_for(lambda: len(running(process.pid)) >= 4)  # the server and two workers, and perhaps more
        time.sleep(1)
        (os.killpg if to_group else os.kill)(process.pid, number)
        out, err = process.communicate(timeout=10)
    assert process.returncode == status
    wait_for(lambda: not running(process.pid), seconds=5)
    assert out == ""
    first, *others = err.splitlines()
    assert first.startswith("digits-mlp-width8-")
    if number == signal.SIGTERM:
        assert others == []
    elif number == signal.SIGINT:
        (line,) = others
        assert line == "interrupted: what is finished is kept, and the same command goes on from there"


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


def test_bad_input_ends_with_status_2_and_writes_nothing(tmp_path):
    with started(tmp_path, "+sweep=variance_shift", "model.width=16,0") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err == "error: model.width=0: allowed is a whole number of at least 1\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["members.dropout.rate=[1.5]"], "members.dropout.rate=1.5: allowed is a drop rate in [0, 1)"),
        (["modle.width=3"], "modle.width=3: no such key; did you mean model.width?"),
        (["recipe.batch_size=2000"], "recipe.batch_size=2000: allowed is at most 1437, digits's training samples"),
        (["-x"], "-x: no such flag here; known are --cfg"),
        (["--resolve"], "--resolve: no such flag here"),
        (["--run", "model.width=3"], "--run: no such flag here"),
        (["model=preresnet"], "model=preresnet: cannot be built for data=digits"),
        (["output=/proc"], "output=/proc: allowed is a folder that can be written"),
        (["model.width=1000000000000"], "model=mlp: cannot be built for data=digits"),
        (["data=cifar10", "data.root=empty"], "data.root"),
        (["data=cifar10", "data.root=cut"], "data.root"),
    ],
    ids=str,
)  # fmt: skip
def test_every_kind_of_bad_input_is_one_line_on_stderr_and_nothing_else(run, tmp_path, arguments, line):
    (tmp_path / "empty" / "cifar-10-batches-bin").mkdir(parents=True)
    (tmp_path / "cut" / "cifar-10-batches-bin").mkdir(parents=True)
    for name in [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]:
        (tmp_path / "cut" / "cifar-10-batches-bin" / name).write_bytes(bytes(3000))
    before = files_below(tmp_path)
    ended = run(*arguments)
    assert ended.status == 2
    assert ended.out == ""
    assert ended.err.startswith(f"error: {line}")
    assert len(ended.err.splitlines()) == 1
    assert files_below(tmp_path) == before


def test_two_processes_do_not_work_on_one_study(run, tmp_path, tiny):
    (tmp_path / "out" / "first_look").mkdir(parents=True)
    with FileLock(tmp_path / "out" / "first_look" / ".lock"):
        ended = run(*tiny)
        assert (ended.status, ended.out) == (2, "")
        assert ended.err == "error: study=first_look: another process is at work in out/first_look\n"
        assert run(*tiny, "study=other").status == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"first_look", "other"}
    assert run(*tiny).status == 0


def test_paths_start_where_the_command_was_typed(run, tmp_path, tiny):
    ended = run(*tiny, "hydra.job.chdir=true", "-m", "hydra.sweep.subdir=deeper")
    assert ended.status == 0
    assert (tmp_path / "out" / "first_look" / "members.csv").exists()
    assert Path.cwd() == tmp_path


def test_a_chunk_that_raises_is_rows_with_a_reason_and_the_rest_goes_on(run, tmp_path, tiny, monkeypatch):
    from experiments import chunk

    run_chunk = chunk.run_chunk
    broken = True

    def run_or_break(job, members, *arguments):
        if broken and job.config["model"]["width"] == 8 and members[0].placement == "before_bn":
            raise RuntimeError("no more\n memory")
        return run_chunk(job, members, *arguments)

    monkeypatch.setattr(chunk, "run_chunk", run_or_break)
    arguments = [*tiny, "-m", "model.width=8,4"]
    ended = run(*arguments)
    assert ended.status == 1
    study = tmp_path / "out" / "first_look"
    members, layers = tables(study)
    assert len(members) == 10
    failed = members[members.status == "failed"]
    assert set(zip(failed.width, failed.placement, strict=True)) == {(8, "before_bn")}
    assert set(failed.reason) == {"RuntimeError: no more memory"}
    assert failed[["test_error", "steps"]].isna().all(axis=None)
    assert (members[members.status != "failed"].status == "ok").all()
    assert len(layers) == 3 * (10 - len(failed))
    assert "8 members ok, 2 members failed" in ended.out
    (job,) = set(failed.job)
    assert ended.err.splitlines()[-1] == f"error: 2 members of {job} failed: RuntimeError: no more memory"
    assert "run_or_break" in (study / "jobs" / job / "errors.txt").read_text()
    assert [path.parent.name for path in study.glob("jobs/*/done.json")] == [
        name for name in set(members.job) if name != job
    ]

    broken = False
    again = run(*arguments)
    assert again.status == 0
    assert "1 of 2 jobs are finished already" in again.err
    assert (tables(study)[0].status == "ok").all()
    assert not (study / "jobs" / job / "errors.txt").exists()


def test_an_error_before_the_first_chunk_fails_all_members_of_its_job_alone(run, tmp_path, tiny, monkeypatch):
    from experiments import job

    plan_chunks = job.plan_chunks
    monkeypatch.setattr(job, "plan_chunks", lambda members, capacity: plan_chunks(members, capacity // 0))
    ended = run(*tiny)
    assert ended.status == 1
    members, layers = tables(tmp_path / "out" / "first_look")
    assert len(members) == 5
    assert set(members.reason.str.split(":").str[0]) == {"ZeroDivisionError"}
    assert layers.empty
    assert pd.read_csv(tmp_path / "out" / "first_look" / "epochs.csv").empty
    assert "5 members failed" in ended.out


def test_a_diverged_member_is_a_row_and_its_neighbours_do_not_notice(run, tmp_path, tiny):
    # No BN layer would let a network diverge by its weights' size alone; 1e30 overflows them.
    ended = run(*tiny, "members.lr=[0.1,1e30]", "study=both")
    assert ended.status == 0
    assert "5 members ok, 5 members diverged" in ended.out
    members, layers = tables(tmp_path / "out" / "both")
    assert dict(zip(members.lr, members.status, strict=True)) == {0.1: "ok", 1e30: "diverged"}
    measured = [
        "train_error_train_mode",
        "train_error_eval_mode",
        "test_error",
        "test_error_adjusted",
        "test_loss",
    ]
    assert members[members.status == "diverged"][measured].isna().all(axis=None)
    assert members[members.status == "diverged"].reason.notna().all()
    ruined = layers[layers.lr == 1e30]
    assert len(ruined) == 15
    assert ruined[["moving_var", "train_var", "test_var", "shift_ratio", "local_ratio"]].isna().all(axis=None)

    assert run(*tiny, "members.lr=[0.1]", "study=alone").status == 0
    for table, alone in zip((members, layers), tables(tmp_path / "out" / "alone"), strict=True):
        beside = table[table.lr == 0.1].reset_index(drop=True)
        drop = [column for column in ("job", "reason", *TIMES) if column in table]
        pd.testing.assert_frame_equal(
            beside.drop(columns=drop), alone.drop(columns=drop), rtol=1e-3, atol=1e-5
        )


def test_hydras_flags_show_and_run_nothing(run, tmp_path, capsys):
    for flags, text in ((["--cfg", "job", "model.width=128"], "width: 128"), (["--help"], "usage: ")):
        ended = run(*flags)
        assert ended.status == 0
        assert text in ended.out
    assert not list(tmp_path.iterdir())


def test_a_job_that_cannot_write_is_two_lines_and_the_same_command_makes_up_for_it(
    run, tmp_path, tiny, monkeypatch
):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))  # a write beyond fails, as on a full disk
    try:
        ended = run(*tiny)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ended.status == 1
    *_, failed, left = ended.err.splitlines()
    assert "File too large" in failed
    assert "holds no tables; run it again" in left
    assert "Traceback" not in ended.err
    assert run(*tiny).status == 0
    assert len(tables(tmp_path / "out" / "first_look")[0]) == 5


def test_failed_members_alone_run_again_and_not_at_all_if_they_are_to_be_left(
    run, tmp_path, tiny, monkeypatch
):
    from experiments import chunk

    run_chunk = chunk.run_chunk
    trained: list[str] = []

    def run_or_break(job, members, *arguments):
        trained.extend(member.placement for member in members)
        if breaks and members[0].placement == "before_bn":
            raise RuntimeError("no more memory")
        return run_chunk(job, members, *arguments)

    monkeypatch.setattr(chunk, "run_chunk", run_or_break)
    breaks = False
    assert run(*tiny, "study=whole").status == 0
    breaks = True
    assert run(*tiny).status == 1
    study = tmp_path / "out" / "first_look"
    good = [line for line in (study / "members.csv").read_text().splitlines() if ",ok," in line]
    assert len(good) == 3

    trained.clear()
    left = run(*tiny, "job.retry=none")
    assert (left.status, trained) == (1, [])
    assert "2 members of" in left.err.splitlines()[-1]

    breaks = False
    assert run(*tiny).status == 0
    # And the noise-free network whose statistics they borrow, without a row of its own.
    assert sorted(trained) == ["before_bn", "before_bn", "none"]
    # What was good is there as it was, to the second that it took.
    assert set(good) < set((study / "members.csv").read_text().splitlines())
    whole = tables(tmp_path / "out" / "whole")
    for table, expected in zip(tables(study), whole, strict=True):
        drop = [column for column in TIMES if column in table]
        pd.testing.assert_frame_equal(table.drop(columns=drop), expected.drop(columns=drop), check_exact=True)


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
