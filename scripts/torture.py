"""Tries to make a small study lose something, with real faults, and counts what was lost.

After each fault the same command runs again. The fault is survived when that ends well and its tables are those
of an undisturbed run to the byte, but for the columns of time: complete, no row torn, none there twice.
"""

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas  # noqa: F401, as the command does
import torch

import experiments.job
import experiments.plan
import experiments.summary  # noqa: F401
from experiments import run
from experiments.tables import read_table

ROOT = Path(__file__).parents[1]
TABLES = ("members.csv", "layers.csv", "epochs.csv")
SWEEP = [
    "+sweep=variance_shift", "data=gaussian", "data.train_size=256", "data.test_size=64", "data.features=8",
    "model.width=4,8", "job.shards=2", "recipe.epochs=8", "recipe.batch_size=32", "members.seed=[0,1]",
    "members.dropout.rate=[0.5]", "members.uout=null", "members.gaussian=null", "processes=1",
]  # fmt: skip
STUDY = Path("outputs/variance_shift")
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


@dataclass
class Outcome:
    """What became of one kind of fault."""

    tried: int = 0
    survived: int = 0
    rows_lost: int = 0
    repeated: int = 0  # finished jobs that ran again although nothing was wrong with them
    skipped: str = ""  # why nothing was tried
    notes: list[str] = field(default_factory=list)


class Study:
    """A folder in which the command runs, and the tables that an undisturbed run leaves."""

    def __init__(self, folder: Path, expected: dict[str, list[dict[str, str]]]):
        self.folder, self.expected, self.started = folder, expected, 0
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def jobs(self) -> list[Path]:
        """The folders of its jobs."""
        return sorted((self.folder / STUDY / "jobs").glob("*"))

    def start(self, *arguments: str, prepare: Callable[[], object] = lambda: None) -> "Command":
        """Start the command, as the leader of a process group of its own, after `prepare` was called in it.

        It is forked from this process, which has imported all that is slow to import, so that a kill finds it at
        work.
        """
        self.started += 1
        log = self.folder / f"stderr-{self.started}.txt"
        log.touch()
        pid = os.fork()
        if pid:
            return Command(pid, log)
        status = 99
        try:
            os.setsid()
            os.chdir(self.folder)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), 2)
            prepare()
            sys.argv = ["run.py", *SWEEP, *arguments]
            status = run.main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def run(self, *arguments: str, prepare: Callable[[], object] = lambda: None) -> tuple[int, str]:
        """Run the command to its end; return its status and what it said on stderr."""
        return self.start(*arguments, prepare=prepare).end(600)

    def done(self) -> dict[str, int]:
        """When each finished job was finished, in nanoseconds."""
        return {
            job.name: (job / "done.json").stat().st_mtime_ns
            for job in self.jobs
            if (job / "done.json").exists()
        }

    def checkpoints(self) -> list[Path]:
        """The checkpoints that there are."""
        return list((self.folder / STUDY).glob("jobs/*/checkpoints/*.checkpoint"))

    def judge(self, outcome: Outcome, status: int, err: str) -> None:
        """Compare the tables with those of an undisturbed run, and count."""
        found = results(self.folder / STUDY)
        for name, rows in self.expected.items():
            outcome.rows_lost += sum(row not in found.get(name, []) for row in rows)
        good = status == 0 and found == self.expected and "Traceback" not in err
        outcome.survived += good
        if not good:
            outcome.notes.append(f"status {status}: {err.strip().splitlines()[-1:]}")


class Command:
    """A command that runs, known by its process."""

    def __init__(self, pid: int, log: Path):
        self.pid, self.log = pid, log
        self.status: int | None = None

    def poll(self) -> int | None:
        """Return the status with which it ended; None while it runs."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status

    def wait(self, seconds: float) -> bool:
        """Wait for its end, so many seconds at most; say whether it came."""
        end = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        return self.status is not None

    def end(self, seconds: float) -> tuple[int, str]:
        """Wait for its end and return its status and what it said on stderr."""
        if not self.wait(seconds):
            os.killpg(self.pid, signal.SIGKILL)
            raise TimeoutError(f"still running after {seconds} s: {self.log.read_text()}")
        assert self.status is not None
        return self.status, self.log.read_text()


def results(study: Path) -> dict[str, list[dict[str, str]]]:
    """Return the merged tables of a study as text, less the columns of time."""
    return {
        name: [
            {k: v for k, v in row.items() if not k.startswith("seconds")} for row in read_table(study / name)
        ]
        for name in TABLES
        if (study / name).exists()
    }


def kills(study: Study, draw: random.Random, count: int, seconds: float) -> Outcome:
    """Kill the command, at a random moment and by a random signal, until it was killed `count` times.

    A study is killed again and again until it is finished; then the next one begins.
    """
    outcome = Outcome()
    while outcome.tried < count:
        shutil.rmtree(study.folder / STUDY, ignore_errors=True)
        number = draw.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        command = study.start()
        if command.wait(draw.uniform(0, seconds)):
            continue
        before = study.done()
        # Ctrl-C reaches the whole group, a kill the command alone.
        (os.killpg if number == signal.SIGINT else os.kill)(command.pid, number)
        _, err = command.end(60)
        outcome.tried += 1
        wait_for_end(command.pid)
        if "Traceback" in err:
            outcome.notes.append(f"{number.name}: {err.strip().splitlines()[-1]}")
        status, err = study.run()
        study.judge(outcome, status, err)
        after = study.done()
        outcome.repeated += sum(after.get(name) != moment for name, moment in before.items())
    return outcome


def checkpoint_kills(study: Study, draw: random.Random, count: int, seconds: float) -> Outcome:
    """Kill the command once it has saved a checkpoint, from which it is then to go on."""
    outcome = Outcome()
    arguments = ["recipe.checkpoint_every=1"]
    while outcome.tried < count:
        shutil.rmtree(study.folder / STUDY, ignore_errors=True)
        command = study.start(*arguments)
        jobs_to_wait_for = draw.randrange(1, 5)  # then there is a checkpoint of this one
        while command.poll() is None and (len(study.jobs) < jobs_to_wait_for or not study.checkpoints()):
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.05))
        if command.poll() is None and study.checkpoints():
            os.kill(command.pid, signal.SIGKILL)
            command.end(60)
            outcome.tried += 1
            study.judge(outcome, *study.run(*arguments))
            if study.checkpoints():
                outcome.notes.append("checkpoints are left behind")
        else:
            command.end(600)
    return outcome


def worker_kills(study: Study, draw: random.Random, count: int, seconds: float) -> Outcome:
    """Kill a worker process, as a system without memory does; the command is to mend that by itself."""
    outcome = Outcome()
    while outcome.tried < count:
        shutil.rmtree(study.folder / STUDY, ignore_errors=True)
        command = study.start("processes=2")
        end = time.monotonic() + 60
        while command.poll() is None and not workers(command.pid) and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.5))
        victims = workers(command.pid)
        if victims:
            with suppress(ProcessLookupError):
                os.kill(draw.choice(victims), signal.SIGKILL)
            outcome.tried += 1
        status, err = command.end(600)
        if victims:
            study.judge(outcome, status, err)
    return outcome


def full_disks(study: Study, draw: random.Random, count: int, seconds: float) -> Outcome:
    """Fill the disk at a random moment: a file system of a few kilobytes, which then grows."""
    outcome = Outcome()
    for _ in range(count):
        with small_disk(study.folder / "disk", draw.randrange(24, 120)) as disk:
            if disk is None:
                return Outcome(skipped="only root may mount a tmpfs")
            full = Study(disk, study.expected)
            status, err = full.run()
            outcome.tried += 1
            if status == 0 or "No space left" not in err or "Traceback" in err:
                outcome.notes.append(f"full: status {status}: {err.strip().splitlines()[-1:]}")
            subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
            status, err = full.run()
            full.judge(outcome, status, err)
    return outcome


def size_limits(study: Study, draw: random.Random, count: int, seconds: float) -> Outcome:
    """Forbid files beyond a random size, which fails in the middle of a write as a full disk does."""
    outcome = Outcome()
    for _ in range(count):
        shutil.rmtree(study.folder / STUDY, ignore_errors=True)
        limit = draw.randrange(200, 10_000)
        status, err = study.run(prepare=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))  # noqa: B023
        outcome.tried += 1
        if status == 0 or "Traceback" in err:
            outcome.notes.append(f"{limit} bytes: status {status}: {err.strip().splitlines()[-1:]}")
        status, err = study.run()
        study.judge(outcome, status, err)
    return outcome


def damages(study: Study, draw: random.Random, count: int, seconds: float) -> Outcome:
    """Cut, edit, empty or remove a random file of a finished study."""
    outcome = Outcome()
    study.run()
    for _ in range(count):
        job = draw.choice(study.jobs)
        path = draw.choice(
            [job / name for name in (*TABLES, "done.json", "config.yaml")]
            + [study.folder / STUDY / name for name in TABLES]
        )
        content = path.read_bytes()
        place = draw.randrange(1, len(content) - 1)
        kind = draw.choice(["cut", "edit", "empty", "remove"])
        if kind == "remove":
            path.unlink()
        else:
            edited = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
            path.write_bytes({"cut": content[:place], "edit": edited, "empty": b""}[kind])
        outcome.tried += 1
        status, err = study.run()
        study.judge(outcome, status, err)
        if path.parent == job and path.suffix == ".csv" and "not as they were written" not in err:
            outcome.notes.append(f"{kind} {path.name}: not said")
    return outcome


def clocks(study: Study, draw: random.Random, count: int, seconds: float) -> Outcome:
    """Let the clock jump by years, in both directions, in the middle of a run that is then killed."""
    if not FAKETIME.exists():
        return Outcome(skipped=f"no {FAKETIME}; apt-get install libfaketime")
    outcome = Outcome()
    setting = study.folder / "clock"
    fake = {
        "LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(setting), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    for _ in range(count):
        shutil.rmtree(study.folder / STUDY, ignore_errors=True)
        clock(setting, draw)
        command = started(study, fake)
        with suppress(subprocess.TimeoutExpired):
            command.communicate(timeout=draw.uniform(3, 3 + 2 * seconds))
        clock(setting, draw)
        time.sleep(0.5)
        if command.poll() is None:
            command.kill()
            command.communicate(timeout=60)
            wait_for_end(command.pid)
        outcome.tried += 1
        clock(setting, draw)
        command = started(study, fake)
        _, err = command.communicate(timeout=600)
        study.judge(outcome, command.returncode, err)
    return outcome


def clock(setting: Path, draw: random.Random) -> None:
    """Set the clock of libfaketime to a random day within some decades."""
    partial = setting.with_suffix(".partial")
    partial.write_text(f"{draw.randrange(-9000, 3000):+d}d\n")
    partial.replace(setting)


def started(study: Study, environment: dict[str, str]) -> subprocess.Popen:
    """Start the command from nothing, in an environment of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.run", *SWEEP],
        cwd=study.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def twins(study: Study, draw: random.Random, count: int, seconds: float) -> Outcome:
    """Start the same command twice: the second must refuse in one line, and the first not notice."""
    outcome = Outcome()
    for _ in range(count):
        shutil.rmtree(study.folder / STUDY, ignore_errors=True)
        first = study.start()
        while first.poll() is None and not list((study.folder / STUDY).glob("jobs/*")):
            time.sleep(0.05)
        second = study.start()
        status, err = second.end(600)
        outcome.tried += 1
        if first.poll() is None and (status != 2 or len(err.splitlines()) != 1):
            outcome.notes.append(f"second: status {status}: {err.strip().splitlines()[-1:]}")
        study.judge(outcome, *first.end(600))
    return outcome


FAULTS: dict[str, tuple[Callable[[Study, random.Random, int, float], Outcome], int]] = {
    "kills": (kills, 50),
    "checkpoint_kills": (checkpoint_kills, 10),
    "worker_kills": (worker_kills, 5),
    "full_disks": (full_disks, 5),
    "size_limits": (size_limits, 5),
    "damages": (damages, 20),
    "clocks": (clocks, 5),
    "twins": (twins, 3),
}


@contextmanager
def small_disk(folder: Path, kibibytes: int) -> Iterator[Path | None]:
    """Yield a folder on a disk of that size; None when this user may not mount one."""
    folder.mkdir(exist_ok=True)
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if mount.returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def workers(main: int) -> list[int]:
    """Return the worker processes of a command: children of a child."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    return [pid for pid, parent in parents.items() if parents.get(parent) == main]


def wait_for_end(group: int) -> None:
    """Wait until no process of a killed command is left."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise TimeoutError(f"processes of the group {group} are still there")


def main() -> int:
    """Run the faults and print a row of each; the status is 0 when all were survived."""
    parser = argparse.ArgumentParser(prog="scripts/torture", description=__doc__)
    parser.add_argument("faults", nargs="*", help=f"which; all without any: {', '.join(FAULTS)}")
    parser.add_argument("--count", type=int, help="how often each; without, as often as the README says")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    if unknown := set(options.faults) - set(FAULTS):
        parser.error(f"{min(unknown)}: allowed is one of {', '.join(FAULTS)}")
    draw = random.Random(options.seed)
    torch.set_num_threads(1)
    with TemporaryDirectory(prefix="torture-") as folder:
        undisturbed = Study(Path(folder) / "undisturbed", {})
        begin = time.monotonic()
        status, err = undisturbed.run()
        seconds = time.monotonic() - begin
        assert status == 0, err
        expected = results(undisturbed.folder / STUDY)
        rows = sum(map(len, expected.values()))
        print(f"undisturbed: {seconds:.1f} s, {len(undisturbed.jobs)} jobs, {rows} rows", flush=True)
        print(f"{'fault':<14}{'tried':>6}{'survived':>10}{'rows lost':>11}{'finished jobs repeated':>24}")
        survived = True
        for name in options.faults or FAULTS:
            fault, count = FAULTS[name]
            outcome = fault(Study(Path(folder) / name, expected), draw, options.count or count, seconds)
            if outcome.skipped:
                print(f"{name:<14}  skipped: {outcome.skipped}", flush=True)
                continue
            print(
                f"{name:<14}{outcome.tried:>6}{outcome.survived:>10}{outcome.rows_lost:>11}{outcome.repeated:>24}",
                *(f"\n    {note}" for note in outcome.notes),
                flush=True,
            )
            survived &= outcome.tried == outcome.survived and not outcome.notes
    return 0 if survived else 1


if __name__ == "__main__":
    sys.exit(main())
