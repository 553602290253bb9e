"""Whole commands, as users type them: the default sweep, one step of one member, and Hydra's cost a job."""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from experiments.study.tables import read_table
from scripts.benchmark.sweep import SWEEP, measuring_share
from scripts.benchmark.timing import seconds_of

ROOT = Path(__file__).resolve().parents[2]


def run_command(*arguments: str, cwd: str | Path = ROOT) -> float:
    """Return the seconds of a module's command line, from its start to its end."""
    command = [sys.executable, "-m", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return seconds_of(
        lambda: subprocess.run(command, check=True, capture_output=True, cwd=cwd, env=environment)
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
    overrides = ["members.seed=[0]", "members.dropout=null", "recipe.epochs=1", "recipe.batch_size=1437"]
    return min(
        run_command("experiments.run", *overrides, f"output={folder}", f"study=one_step{index}")
        for index in range(repeats)
    )


def hydra_jobs_per_second(jobs: int = 20) -> float:
    """Return how many jobs a second Hydra launches when each does nothing, its start-up taken off."""

    def launch(count: int) -> float:
        epochs = f"recipe.epochs=range(1,{count + 1})"
        with tempfile.TemporaryDirectory() as folder:
            return run_command("scripts.empty_job", "-m", "hydra.sweep.dir=.", epochs, cwd=folder)

    return jobs / (launch(jobs + 1) - launch(1))
