"""Whole commands, as users type them: the default sweep, one step of one member, and many jobs of it."""

import os
import resource
import subprocess
import sys
from pathlib import Path

from experiments.study.tables import read_table
from scripts.benchmark.sweep import SWEEP, measuring_share
from scripts.benchmark.timing import seconds_of

# A job that takes no time to speak of.
ONE_STEP = ["members.seed=[0]", "members.dropout=null", "recipe.epochs=1", "recipe.batch_size=1437"]
ROOT = Path(__file__).resolve().parents[2]


def run_command(*arguments: str) -> float:
    """Return the seconds of a module's command line, from its start to its end."""
    command = [sys.executable, "-m", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return seconds_of(
        lambda: subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=environment)
    )


def whole_sweep(extra: list[str], folder: str) -> dict[str, float]:
    """Run the default sweep; return its seconds, what measuring was of training, and the largest process's MiB."""
    seconds = run_command("experiments.run", *SWEEP, *extra, f"output={folder}", "study=whole")
    kibibytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {
        "seconds": seconds,
        "measuring_share_of_training": measuring_share(read_table(Path(folder, "whole", "members.csv"))),
        "largest_process_mib": kibibytes / 1024,
    }


def one_step_seconds(folder: str, repeats: int = 3) -> float:
    """Return the seconds of a command that imports, reads its data, trains a single step, measures and writes."""
    return min(
        run_command("experiments.run", *ONE_STEP, f"output={folder}", f"study=one_step{index}")
        for index in range(repeats)
    )


def many_jobs(folder: str, jobs: int = 200) -> dict[str, float]:
    """Run a study of so many jobs of one step, and ask for it again; return what each cost.

    Both are seconds a job, with the time that a command of one job takes taken off.
    """

    def asked_for(count: int, study: str) -> float:
        rates = f"recipe.lr=range(1,{count + 1})"
        return run_command("experiments.run", "-m", *ONE_STEP, rates, f"output={folder}", f"study={study}")

    first, again = ({count: asked_for(count, f"jobs{count}") for count in (1, jobs)} for _ in range(2))
    return {
        "jobs": jobs,
        "seconds_a_job": (first[jobs] - first[1]) / (jobs - 1),
        "seconds_a_finished_job": (again[jobs] - again[1]) / (jobs - 1),
    }
