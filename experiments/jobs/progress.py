"""What a running job shows of itself on stderr: a live bar in a terminal or a notebook, two lines in a log."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class JobProgress:
    """Counts the finished members of a job, and the training steps of all its members together."""

    def __init__(self, bar: Progress, task: TaskID):
        self._bar, self._task = bar, task
        self.members = 0

    def add_steps(self, count: int) -> None:
        """Report that many more steps, each one step of one member."""
        self._bar.advance(self._task, count)

    def add_members(self, count: int) -> None:
        """Report members that are trained, measured and have their rows."""
        self.members += count
        self._bar.update(self._task, done=self.members)


def stderr_console() -> Console:
    """Return a console on stderr. The output of a notebook's cell draws a line anew as a terminal does."""
    console = Console(stderr=True)
    return Console(stderr=True, force_jupyter=False, force_terminal=True) if console.is_jupyter else console


@contextmanager
def job_progress(name: str, members: int, steps: int, live: bool = True) -> Iterator[JobProgress]:
    """Show the progress of the job `name`, of so many members of `steps` steps each, while the context lasts.

    Without `live` there are two lines also in a terminal: several jobs at once cannot share it.

    The job's name has a line of its own, so that the numbers fit a terminal of 80 columns.
    """
    console = stderr_console()
    live = live and console.is_terminal
    console.print(f"{name}: {members} members of {steps:,} steps", highlight=False, soft_wrap=True)
    start = time.monotonic()
    bar = Progress(
        BarColumn(bar_width=None),
        TextColumn("{task.fields[done]}/{task.fields[members]} members"),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        disable=not live,
        expand=True,
        speed_estimate_period=120,  # seconds; chunks report once an epoch, and not in step
    )
    with bar:
        progress = JobProgress(bar, bar.add_task("", total=members * steps, done=0, members=members))
        yield progress
    if not live:
        seconds = time.monotonic() - start
        console.print(
            f"{name}: {progress.members} members in {seconds:.1f} s", highlight=False, soft_wrap=True
        )


@contextmanager
def jobs_progress(jobs: int, count_ended: Callable[[], int], seconds: float = 5) -> Iterator[None]:
    """Say on stderr how many of so many jobs have ended, whenever that changes, while the context lasts.

    For jobs that run elsewhere, perhaps in a queue: `count_ended` looks at their files every so many `seconds`.
    """
    left = threading.Event()

    def watch() -> None:
        shown = 0
        while not left.wait(seconds):
            if (ended := count_ended()) != shown:
                print(f"{ended} of {jobs} jobs have ended", file=sys.stderr, flush=True)
                shown = ended

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()
