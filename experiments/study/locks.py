"""Who is at work on a study, and on a part of it: one process at a time."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from experiments.checks import ConfigError
from experiments.study.files import is_there, remove_partials

# What there is in the folder of a study of which no job was begun.
IN_VAIN = {".lock", "environment.json"}


def check_free(folder: Path) -> None:
    """Raise ConfigError while another process is at work in the study of `folder`; write nothing."""
    if is_there(folder / ".lock") and not is_free(folder):
        raise _at_work(folder)


@contextmanager
def study_lock(folder: Path) -> Iterator[None]:
    """Keep a study to this process, cleared of torn files, and leave no folder behind that it made in vain.

    Raises ConfigError while another process is at work in `folder`.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise _at_work(folder) from error
    try:
        remove_partials(folder)
        yield
    finally:
        with suppress(OSError):  # another process may have begun a study beside it
            if made and {path.name for path in folder.iterdir()} <= IN_VAIN:
                for name in IN_VAIN:
                    (folder / name).unlink(missing_ok=True)
                for path in made:
                    path.rmdir()
        lock.release()


@contextmanager
def part_lock(work: Path) -> Iterator[None]:
    """Keep the part that is made in `work` to this process; wait while another one is at work on it.

    On a cluster a job may still run when the command that launched it has been stopped and typed again.
    """
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{work.name}: another process is at work on it; waiting for its end", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def is_free(work: Path) -> bool:
    """Say whether nobody holds the lock of a folder: of a study, or of one where a part is made."""
    lock = FileLock(work / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return True


def _at_work(folder: Path) -> ConfigError:
    return ConfigError(f"study={folder.name}: another process is at work in {folder}")
