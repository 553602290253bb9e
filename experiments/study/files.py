"""Files that appear complete or not at all, whenever this process or the machine stops, and errors of the disk."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from experiments.checks import ConfigError


@contextmanager
def all_or_nothing(path: Path, mode: str = "x", newline: str | None = None) -> Iterator[IO[Any]]:
    """Open a file for writing that takes the place of `path` once all of it is on the disk.

    `mode` is "x" for text, which is UTF-8, or "xb". Whatever stops it leaves `path` as it was.
    """
    partial = path.with_name(f".{path.name}.partial")
    # A killed process may have left it behind; were it a link or a pipe, writing would go through it, or wait.
    partial.unlink(missing_ok=True)
    try:
        with partial.open(mode, newline=newline, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def remove_partials(folder: Path) -> None:
    """Remove what killed processes left of the files that they were writing in `folder`. Nobody else may write."""
    for partial in folder.glob(".*.partial"):
        partial.unlink()


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
        return [folder / name for name in sorted(os.listdir(folder))]
    except FileNotFoundError:
        return []


def check_writable(folder: Path, setting: str) -> None:
    """Raise ConfigError unless `folder` is, or can be made, one to write in; `setting` named it, KEY=VALUE."""
    existing = folder
    try:
        existing = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
        # Access rights tell only half: file systems can be read-only, and root is told that all is allowed.
        # The name is always the same, so that the next command removes what a killed one left here.
        probe = existing / f".{folder.name}.probe"
        probe.touch()
        probe.unlink(missing_ok=True)  # another command may have removed it
    except OSError as error:
        reason = "a link to nothing" if existing.is_symlink() and not existing.exists() else error.strerror
        raise ConfigError(
            f"{setting}: allowed is a folder that can be written ({existing}: {reason})"
        ) from error
