"""Faults of single file operations: each operation of a command, in its turn, fails or is the last one.

An operation is a system call about the study's folder, what is in it, or the folder that it lies in
(`scripts.faults.watch` lists them). Every one is tried, but for three that others stand for:

- A full disk is met by operations that ask for space alone, and stays full until the command ends.
- A command is killed before operations that change a file or a folder alone: before any other one, the disk is as
  before the next of these.
- The study is trained in one process. Worker processes write no files but checkpoints, as that one does.
"""

import errno
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from multiprocessing import get_context
from pathlib import Path

from experiments.jobs.memory import look_for_garbage_from_here
from experiments.run import main
from scripts.faults.study import Left, Outcome, Study
from scripts.faults.watch import KILL, Operation, watch, why_not

EVERY = sys.maxsize
# A job of two members, which train one after the other and save two checkpoints each.
JOB = [
    "study=variance_shift", "data=gaussian", "data.train_size=64", "data.test_size=16", "data.features=4",
    "recipe.epochs=2", "recipe.batch_size=32", "recipe.checkpoint_every=1", "members.seed=[0]",
    "members.dropout.rate=[0.5]", "members.dropout.placement=[before_bn]", "processes=1",
]  # fmt: skip
ONE_JOB, TWO_JOBS = [*JOB, "model.width=4"], ["-m", *JOB, "model.width=4,8"]
REMOVES = ("truncate", "ftruncate", "unlink", "unlinkat", "rmdir")
ADDS = (
    *("write", "pwrite64", "writev", "pwritev", "sendfile", "copy_file_range", "fallocate"),
    *("mkdir", "mkdirat", "rename", "renameat", "renameat2", "link", "linkat"),
)


def opens(operation: Operation) -> bool:
    """Say whether an operation asks for a file descriptor."""
    return operation.call in ("open", "openat", "creat")


def changes(operation: Operation) -> bool:
    """Say whether an operation changes a file or a folder."""
    return operation.call in (*ADDS, *REMOVES) or operation.makes_file


def asks_for_space(operation: Operation) -> bool:
    """Say whether an operation fails on a full disk."""
    return operation.call in (*ADDS, "fsync", "fdatasync") or operation.makes_file


@dataclass(frozen=True)
class Kind:
    """A kind of fault: the error, which operations it meets, how many of them in a row, and at which it begins."""

    error: int
    meets: Callable[[Operation], bool] = lambda operation: True
    times: int = 1
    step: int = 1  # 4: at every fourth of these


NONE = Kind(error=0)
KINDS = {
    "eio": Kind(errno.EIO),
    "eio_8": Kind(errno.EIO, times=8, step=4),
    "enospc": Kind(errno.ENOSPC, asks_for_space, times=EVERY),
    "emfile": Kind(errno.EMFILE, opens),
    "sigkill": Kind(KILL, changes),
}


@dataclass(frozen=True)
class Point:
    """A fault of a command that finds `start`, at one operation: the `number`-th of those that its kind meets."""

    start: Study
    kind: str
    number: int
    operation: Operation


def operations(kind: str, study: Study, draw: random.Random, count: int, seconds: float) -> Outcome:
    """Do a fault of KINDS at each operation of two commands, or at `count` of them all.

    The first command is of one job and finds nothing. The second is of two: it finds one that is finished, and one
    of which a member failed and all have checkpoints.
    """
    if reason := why_not():
        return Outcome(skipped=reason)
    points = []
    for start, seen in starts(study.folder.parent):
        met = [*enumerate(filter(KINDS[kind].meets, seen))][:: KINDS[kind].step]
        points += [Point(start, kind, number, operation) for number, operation in met]
    outcome = Outcome()
    with ProcessPoolExecutor(
        mp_context=get_context("fork"), initializer=warm_up, initargs=(study.folder,)
    ) as pool:
        for one in pool.map(try_point, draw.sample(points, min(count, len(points)))):
            outcome.add(one)
    return outcome


@cache
def starts(folder: Path) -> list[tuple[Study, list[Operation]]]:
    """Return what the two commands find, each with the operations that follow when nothing disturbs it."""
    nothing, failures = (
        Study(folder / name, Left({}, set()), command)
        for name, command in (("nothing", ONE_JOB), ("failures", TWO_JOBS))
    )
    undisturbed = copy(failures, "undisturbed")
    seen = run(undisturbed)[2]
    failures.undisturbed = undisturbed.left()
    saved = [
        n for n, (call, path, _) in enumerate(seen) if (path.parent.name, call) == ("checkpoints", "fsync")
    ]
    run(failures, KINDS["eio"], saved[-1])
    found = []
    for start in (nothing, failures):
        whole = copy(start, "whole")
        status, err, seen = run(whole)
        assert status == 0, err
        start.undisturbed = whole.left()
        found.append((start, seen))
    assert found[1][0].undisturbed == undisturbed.left()
    return found


def warm_up(folder: Path) -> None:
    """Run a command in this process: what it imports and compiles, each child of this process then has."""
    place = folder / f"warm-up-{os.getpid()}"
    place.mkdir()
    os.chdir(place)
    sys.argv = ["run.py", *ONE_JOB]
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        main()
    look_for_garbage_from_here()


def copy(start: Study, name: str) -> Study:
    """Return another study that is as `start` is."""
    study = Study(start.folder.with_name(f"{start.folder.name}-{name}"), start.undisturbed, start.command)
    shutil.copytree(start.folder, study.folder, dirs_exist_ok=True)
    return study


def run(study: Study, kind: Kind = NONE, number: int = 0) -> tuple[int, str, list[Operation]]:
    """Run the command with a fault; return its status, its stderr, and the operations that such a fault meets."""
    met: list[Operation] = []

    def decide(operation: Operation) -> int:
        if not kind.meets(operation):
            return 0
        met.append(operation)
        return kind.error if number < len(met) <= number + kind.times else 0

    status, err = watch(lambda prepare: study.start(prepare=prepare), study.folder, decide, seconds=300)
    return status, err, met


def try_point(point: Point) -> Outcome:
    """Do one fault, run the command again, and say what became of it."""
    outcome = Outcome(tried=1)
    study = copy(point.start, f"{point.kind}-{point.number}")
    done, members = study.done(), study.finished_members()
    try:
        status, err, _ = run(study, KINDS[point.kind], point.number)
        if wrong := what_is_wrong(study, KINDS[point.kind], status, err):
            outcome.note(wrong, err)
        after = study.done()
        outcome.notes += [f"no longer done: {job}" for job in done if after.get(job) != done[job]]
        study.judge(outcome, *study.run())
        outcome.repeated = sum(study.done().get(job) != moment for job, moment in after.items())
        if again := members - study.finished_members():
            outcome.notes.append(f"{len(again)} finished members trained again")
    except TimeoutError as error:
        outcome.notes.append(str(error))
    outcome.survived = int(not outcome.notes)
    place = f"{point.start.folder.name} {point.number} {point.operation.call} {point.operation.path.name}"
    outcome.notes = [f"{place}: {note}" for note in outcome.notes]
    shutil.rmtree(study.folder)
    return outcome


def what_is_wrong(study: Study, kind: Kind, status: int, err: str) -> str:
    """Return what is wrong with how a command ended that met a fault; nothing for a good end."""
    if "Traceback" in err or "Exception ignored" in err:
        return "a traceback"
    if kind.error == KILL:
        return "" if status == -signal.SIGKILL else f"not killed: status {status}"
    if status == 0:
        return "" if study.left() == study.undisturbed else "status 0, but the study is not whole"
    said = any(line.startswith("error: ") or " errors, see " in line for line in err.splitlines())
    return "" if said and status in (1, 2) else f"status {status} without a reason"
