"""Writing: files that appear complete or not at all, whenever this process or the machine stops."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
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


def check_writable(folder: Path, setting: str) -> None:
    """Raise ConfigError unless `folder` is, or can be made, one to write in; `setting` named it, KEY=VALUE."""
    existing = folder
    try:
        existing = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
        # Access rights tell only half: file systems can be read-only, and root is told that all is allowed.
        with TemporaryDirectory(prefix=".", dir=existing):
            pass
    except OSError as error:
        reason = "a link to nothing" if existing.is_symlink() and not existing.exists() else error.strerror
        raise ConfigError(
            f"{setting}: allowed is a folder that can be written ({existing}: {reason})"
        ) from error
