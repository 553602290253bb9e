"""What a command shows on stderr of its training: one line for all its jobs in a terminal, a line a job in a log.

Jobs that run in processes of their own, perhaps on other machines, write how far they are into a file in the
folder where their part is made, and the command looks at these files.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from experiments.settings.config import Job
from experiments.study.part import has_ended, part_folder, work_folder

Report = Callable[[float], None]  # is told the share of a job that is done, in [0, 1]
MEASURING = 5  # epochs of training that take as long as measuring a member: 3 to 8 were seen
FILE = "progress"
SECONDS = 2.0  # between two looks at the files of jobs elsewhere, and between two times that one is written


class JobProgress:
    """Counts the finished members and training steps of one job, and tells how far it is."""

    def __init__(self, report: Report, members: int, steps: int, epochs: int):
        self._report = report
        self._members, self._steps, self._epochs = members, members * steps, epochs
        self._done_members = self._done_steps = 0

    def add_steps(self, count: int) -> None:
        """Report that many more steps, each one step of one member."""
        self._done_steps += count
        self._tell()

    def add_members(self, count: int) -> None:
        """Report members that are trained, measured and have their rows."""
        self._done_members += count
        self._tell()

    def _tell(self) -> None:
        trained = self._done_steps / max(1, self._steps) * self._epochs
        measured = self._done_members / self._members * MEASURING
        self._report((trained + measured) / (self._epochs + MEASURING))


class CommandProgress:
    """The line of a command: which of its jobs run, how much of all is done, how long the rest takes."""

    def __init__(self, console: Console, live: Progress, parts: Mapping[str, Job], work: Mapping[str, float]):
        self._console, self._live, self._parts, self._work = console, live, parts, work
        self._shares = dict.fromkeys(parts, 0.0)
        self._ended: set[str] = set()
        self._begun = time.monotonic()
        self._task = live.add_task("", total=sum(work.values()) or 1.0, text="", visible=False)
        self._show()

    @property
    def running(self) -> list[str]:
        """The labels of the jobs that have not ended."""
        return [label for label in self._parts if label not in self._ended]

    def report(self, label: str, share: float) -> None:
        """Show that this share of a job is done; all of it is once `end` says so."""
        self._shares[label] = min(share, 0.99)
        self._show()

    def end(self, label: str) -> None:
        """Show that a job has ended; in a log, say so in a line."""
        self._shares[label] = 1.0
        self._ended.add(label)
        self._show()
        if self._live.disable:
            members, seconds = len(self._parts[label].members), time.monotonic() - self._begun
            line = f"[{len(self._ended)}/{len(self._parts)}] {label}: {members} members"
            self._console.print(
                f"{line}, {seconds:.1f} s since the start", highlight=False, markup=False, soft_wrap=True
            )

    def _show(self) -> None:
        begun = [label for label in self.running if self._shares[label]]
        number = min(len(self._ended) + max(1, len(begun)), len(self._parts))
        text = f"[{number}/{len(self._parts)}] {', '.join(begun or self.running[:1])}"
        done = sum(self._work[label] * share for label, share in self._shares.items())
        self._live.update(self._task, completed=done, text=text, visible=True)


class _Left(ProgressColumn):
    """How much is done, and how long the rest takes at the speed of the last two minutes."""

    def render(self, task: Task) -> Text:
        seconds = task.elapsed if task.finished else task.time_remaining
        minutes, rest = divmod(int(seconds or 0), 60)
        hours, minutes = divmod(minutes, 60)
        clock = f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
        said = f"{'-:--' if seconds is None else clock} {'in all' if task.finished else 'left in all'}"
        return Text(f"{int(task.percentage)} %, {said}")


def stderr_console() -> Console:
    """Return a console on stderr. The output of a notebook's cell draws a line anew as a terminal does."""
    console = Console(stderr=True)
    return Console(stderr=True, force_jupyter=False, force_terminal=True) if console.is_jupyter else console


@contextmanager
def command_progress(parts: Mapping[str, Job], work: Mapping[str, float]) -> Iterator[CommandProgress]:
    """Show the progress of a command's jobs, by their labels, while the context lasts.

    `work` says how much each job is beside the others.
    """
    console = stderr_console()
    live = Progress(
        TextColumn(
            "{task.fields[text]}",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", ratio=2),
        ),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        _Left(table_column=Column(no_wrap=True)),
        console=console,
        disable=not console.is_terminal,
        expand=True,
        refresh_per_second=2,
        speed_estimate_period=120,  # seconds; chunks report once an epoch, and not in step
    )
    with live:
        yield CommandProgress(console, live, parts, work)


class FileReport:
    """Keeps the share of a job that is done in a file, written at most once in a while."""

    def __init__(self, part: Job):
        self._file, self._written = work_folder(part) / FILE, 0.0

    def __call__(self, share: float) -> None:
        """Write the share, if the last time is long ago. That it cannot be written stops no training."""
        if (now := time.monotonic()) - self._written >= SECONDS:
            self._written = now
            with suppress(OSError):
                self._file.write_text(f"{share:.4f}")


def look(parts: Mapping[str, Job], progress: CommandProgress) -> None:
    """Show what the files of jobs elsewhere say."""
    for label in progress.running:
        if has_ended(part_folder(parts[label])):
            progress.end(label)
        elif share := _read(work_folder(parts[label]) / FILE):
            progress.report(label, share)


@contextmanager
def watched(parts: Mapping[str, Job], progress: CommandProgress) -> Iterator[None]:
    """Look at the files of jobs elsewhere every so often, while the context lasts and once more at its end."""
    left = threading.Event()

    def watch() -> None:
        while not left.wait(SECONDS):
            look(parts, progress)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()
        look(parts, progress)


def _read(file: Path) -> float:
    """Return what a file says, 0 where there is none or it is being written."""
    try:
        return float(file.read_text())
    except (OSError, ValueError):
        return 0.0
