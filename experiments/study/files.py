"""Files that appear complete or not at all, whenever this process or the machine stops, and errors of the disk."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from experiments.checks import ConfigError


@contextmanager
def all_or_nothing(path: Path, mode: str = "w", newline: str | None = None) -> Iterator[IO[Any]]:
    """Open a file for writing that takes the place of `path` once all of it is on the disk; text is UTF-8."""
    # A name of its own, so that what a killed process left behind is written over.
    partial = path.with_name(f".{path.name}.partial")
    with partial.open(mode, newline=newline, encoding=None if "b" in mode else "utf-8") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a small file, all or nothing."""
    with all_or_nothing(path) as file:
        file.write(text)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have errors of reading `path` say that it is this file, which they do only when it cannot be opened."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def is_there(path: Path) -> bool:
    """Say whether there is a file. Raises OSError where that cannot be told; Path.exists may say no."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def listed(folder: Path) -> list[Path]:
    """Return what lies in a folder, in order; nothing where there is no folder.

    Raises OSError for a folder that cannot be read; Path.glob may take it for an empty one.
    """
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def check_writable(folder: Path) -> None:
    """Raise ConfigError unless `folder` is, or can be made, a folder to write in."""
    existing = folder
    try:
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        # Access rights tell only half: file systems can be read-only, and root is told that all is allowed.
        # The name is always the same, so that the next command removes what a killed one left here.
        probe = existing / f".{folder.name}.probe"
        probe.touch()
        probe.unlink(missing_ok=True)  # another command may have removed it
    except OSError as error:
        raise ConfigError(
            f"output={folder.parent}: allowed is a folder that can be written ({existing}: {error.strerror})"
        ) from error
