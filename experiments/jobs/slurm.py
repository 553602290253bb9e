"""Jobs in Slurm's queue: handed over once, remembered in the study, waited for by whichever command comes next.

A file of the study says which part which of Slurm's jobs makes. What becomes of a part is told by its files alone;
Slurm is asked only whether it still has the job.
"""

import getpass
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from experiments.checks import one_line
from experiments.jobs.progress import SECONDS, CommandProgress, look
from experiments.settings.config import Job
from experiments.study.files import write_text

SUBMITTED = Path(".submitit", "submitted.json")  # in the study, beside the jobs' own output
ASKING = 10.0  # seconds between two questions to Slurm
# What squeue says of a job that will not run again; all others wait, run, or are put back into the queue.
OVER = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "REVOKED",
    "TIMEOUT",
}


@contextmanager
def submitting() -> Iterator[list[str]]:
    """Have Hydra's launcher return once Slurm has its jobs, whose numbers are gathered in what is yielded."""
    from submitit.core.core import Job as Submitted  # type: ignore[import-not-found]

    numbers: list[str] = []

    def results(self: Submitted) -> list[None]:
        numbers.append(self.job_id)
        return [None]

    wait, Submitted.results = Submitted.results, results
    try:
        yield numbers
    finally:
        Submitted.results = wait


def queued_jobs(study: Path) -> dict[str, str]:
    """Return the numbers of the jobs that a study remembers and Slurm still has, by their parts' names.

    Raises OSError when Slurm does not answer.
    """
    try:
        remembered = json.loads((study / SUBMITTED).read_text())
        there = _queue() if remembered else set()
        return {name: number for name, number in remembered.items() if number in there}
    except (FileNotFoundError, ValueError, AttributeError):  # none, or not as it was written
        return {}


def remember(study: Path, jobs: Mapping[str, str]) -> None:
    """Write the numbers of Slurm's jobs, by the names of their parts, into the study."""
    (study / SUBMITTED).parent.mkdir(parents=True, exist_ok=True)
    write_text(study / SUBMITTED, json.dumps(jobs))


def wait_for_jobs(parts: Mapping[str, Job], numbers: Mapping[str, str], progress: CommandProgress) -> None:
    """Wait until each part, by its label, is there or Slurm has lost its job, whose number `numbers` says."""
    left = {label for label, part in parts.items() if part.name in numbers}
    missed: set[str] = set()
    asked = time.monotonic()
    while left:
        look(parts, progress)
        left &= set(progress.running)
        if time.monotonic() - asked >= ASKING and left:
            asked = time.monotonic()
            try:
                gone = {label for label in left if numbers[parts[label].name] not in _queue()}
            except OSError as error:
                print(f"{one_line(error)}; asking again", file=sys.stderr)
                continue
            # Twice, for a file of another machine may be seen late.
            for label in sorted(gone & missed):
                number = numbers[parts[label].name]
                log = parts[label].folder / SUBMITTED.parent / number
                said = f"Slurm's job {number} is over and wrote no tables; what it said lies in {log}"
                print(f"error: {label}: {said}", file=sys.stderr)
            left, missed = left - (gone & missed), gone
        time.sleep(SECONDS / 4)


def _queue() -> set[str]:
    """Return the numbers of this user's jobs that Slurm has and that are not over."""
    command = [
        "squeue",
        "--noheader",
        "--array",
        "--states=all",
        "--format=%i|%T",
        f"--user={getpass.getuser()}",
    ]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
        raise OSError(f"Slurm does not answer ({one_line(' '.join(said))})") from error
    lines = (line.strip().split("|") for line in answer.splitlines())
    return {number for number, state in lines if state not in OVER}
