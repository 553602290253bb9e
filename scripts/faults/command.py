"""The command as a process of its own that faults can be done to."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pandas  # noqa: F401, as the command does

import experiments.jobs.job
import experiments.settings.plan
import experiments.study.summary  # noqa: F401
from experiments import run


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


def fork_command(
    folder: Path, log: Path, arguments: Sequence[str], prepare: Callable[[], object] = lambda: None
) -> Command:
    """Start the command in `folder`, as the leader of a process group of its own; `log` takes its stderr.

    It is forked from this process, which has imported all that is slow to import, so that a kill finds it at
    work. `prepare` is called in the new process first.
    """
    log.touch()
    pid = os.fork()
    if pid:
        return Command(pid, log)
    status = 99
    try:
        os.setsid()
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), 2)
        prepare()
        sys.argv = ["run.py", *arguments]
        status = run.main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def workers(main: int) -> list[int]:
    """Return the worker processes of the command whose process is `main`: children of its server of processes.

    The server has other children too, which imports start and which end at once; they are other programs.
    """
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if b"forkserver" in (stat.parent / "cmdline").read_bytes():
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
