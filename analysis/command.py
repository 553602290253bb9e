"""How a command of the analysis ends: its exit status, and the one line that says why."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

# The name this package is imported by: analysis in a checkout, variance_shift installed.
PACKAGE = __name__.partition(".")[0]


class PathError(ValueError):
    """A path on the command line that cannot be used."""


def check_paths(*paths: Path) -> None:
    """Raise PathError for a path that no line can show, or that is an address such as s3://bucket."""
    for path in map(str, paths):
        if not path.isprintable() or re.match(r"[A-Za-z][\w+.-]+:/", path):
            raise PathError(f"{path}: allowed is a path on this machine, of printable characters")


def exit_status(name: str, work: Callable[[], int], *refused: type[Exception]) -> int:
    """Do the `work` of `python -m analysis.NAME`, which prints once all is written, and return its exit status.

    That is what `work` returns; 2, with one line on stderr, where it raises PathError, OSError or one of
    `refused`; 130 for Ctrl-C. A reader that leaves early, such as head, is no error. Any other exception is a
    fault of ours and shows where.
    """
    try:
        try:
            return work()
        finally:
            print(end="", flush=True)  # what cannot be written is found here, not when Python ends
    except BrokenPipeError:
        _drop_output()
        return 0
    except (*refused, PathError, OSError) as error:
        print(f"{name}: {one_line(error)}", file=sys.stderr)
        _drop_output()
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        _drop_output()
        return 130


def one_line(text: object) -> str:
    """Return a text as one line: of its characters those that can be printed, with single blanks between words."""
    printable = "".join(character if character.isprintable() else " " for character in str(text))
    return " ".join(printable.split())


def _drop_output() -> None:
    """Send what stdout still holds nowhere, if it cannot be written."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
