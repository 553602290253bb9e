"""Writing: files that appear complete or not at all, whenever this process or the machine stops."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
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


def check_writable(folder: Path) -> None:
    """Raise ConfigError unless `folder` is, or can be made, a folder to write in."""
    existing = folder
    try:
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        # Access rights tell only half: file systems can be read-only, and root is told that all is allowed.
        with TemporaryDirectory(prefix=".", dir=existing):
            pass
    except OSError as error:
        raise ConfigError(
            f"output={folder.parent}: allowed is a folder that can be written ({existing}: {error.strerror})"
        ) from error
