"""How a command ends: its exit status, the line that says why, and what it prints when nobody reads on."""

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, TextIO

from experiments.checks import ConfigError, one_line


def exit_status(work: Callable[[], int], name: str = "error") -> int:
    """Do the `work` of a command and return its exit status.

    That is what `work` returns, 2 for bad input, 1 for a full disk, 130 for Ctrl-C; one line on stderr, which
    `name` begins, says why. Any other exception is an error of the harness, and shows its traceback.
    """
    resumes = "what is finished is kept, and the same command goes on from there"
    with readers_may_leave():
        try:
            status = work()
            print(end="", flush=True)  # where stdout is a full disk, it says so here
            return status
        except ConfigError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        except OSError as error:  # the disk is full, say, while tables are merged
            print(f"{name}: {one_line(error)}; {resumes}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            print(f"interrupted: {resumes}", file=sys.stderr)
            return 130


@contextmanager
def readers_may_leave() -> Iterator[None]:
    """Let those who read stdout and stderr, such as head, leave early: the rest is dropped, the work goes on."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_patient, before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        sys.stdout, sys.stderr = before


class _File(io.FileIO):
    """A file that goes on taking what nobody reads any more."""

    def write(self, data) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes


def _patient(stream: TextIO | None) -> IO[str]:
    """Return a stream to the same file that does not break, nor stumble over a character that it cannot write."""
    if stream is None:  # whoever started this process closed it
        return open(os.devnull, "w")
    if stream.isatty():
        return stream
    try:
        file = _File(stream.fileno(), "w", closefd=False)
    except io.UnsupportedOperation:  # no file but, say, a notebook
        return stream
    stream.flush()
    buffer, lines = io.BufferedWriter(file), bool(stream.line_buffering)
    return io.TextIOWrapper(buffer, stream.encoding, "backslashreplace", line_buffering=lines)
