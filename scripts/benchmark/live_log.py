"""What `logger=wandb` costs training while it shows it: `python -m scripts.benchmark.live_log [OVERRIDES]`; Linux.

Chunks of the default sweep are trained in this process, in turns without a logger and with one whose run is open;
meanwhile the process that shows training is stopped, or goes on. Prints the ratio of a pair's seconds, of this
process and by the clock, as mean and 95 % interval, and the CPU seconds of the process that shows training: until
its run is open, which each command pays once, and a minute.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t

from experiments.data import load_data
from experiments.jobs.chunk import run_chunk
from experiments.loggers.chunk_log import ChunkLog
from experiments.loggers.process import wandb_environment
from experiments.loggers.run_record import study_run_id
from experiments.settings.config import Job
from experiments.settings.logger import wandb_settings
from experiments.settings.plan import plan_jobs
from scripts.benchmark.sweep import SWEEP
from scripts.benchmark.timing import seconds_of

PAIRS, EPOCHS = 6, 100


def main(extra: list[str]) -> None:
    """Train the pairs and print what they say."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        chosen = ["model.width=16", f"recipe.epochs={EPOCHS}", f"output={folder}", "study=live", *extra]
        (job,) = plan_jobs([*SWEEP, *chosen], multirun=False).jobs
        logging = replace(job, logger=wandb_settings())
        data, count = load_data(job.data), len(job.members) // (PAIRS + 1)
        # Each pair has members of its own, whose curves are new; the first compile, load and are in no pair.
        first, *chunks = [job.members[i * count : (i + 1) * count] for i in range(PAIRS + 1)]
        run_chunk(replace(job, recipe=replace(job.recipe, epochs=1)), first, data)
        ratios, shown = [], []
        with _watching(logging) as watch:
            begun = _cpu_seconds(watch)
            for index, chunk in enumerate(chunks):
                turns = {}
                for of_turn in (job, logging) if index % 2 else (logging, job):
                    os.kill(watch, signal.SIGCONT if of_turn is logging else signal.SIGSTOP)
                    before, begin = _cpu_seconds(watch), time.process_time()
                    wall = seconds_of(lambda of_turn=of_turn, chunk=chunk: run_chunk(of_turn, chunk, data))
                    turns[of_turn is logging] = (time.process_time() - begin, wall)
                    if of_turn is logging:
                        shown.append((_cpu_seconds(watch) - before, wall))
                ratios.append(np.array(turns[True]) / np.array(turns[False]))
                print(f"pair {index + 1}, (CPU s, s) with the logger {turns[True]}, without {turns[False]}")
            os.kill(watch, signal.SIGCONT)
    means, deviations = np.mean(ratios, axis=0), np.std(ratios, axis=0, ddof=1)
    for name, mean, deviation in zip(("this process", "the clock"), means, deviations, strict=True):
        half = t.ppf(0.975, PAIRS - 1) * deviation / PAIRS**0.5
        print(f"training, seconds of {name}: {100 * (mean - 1):+.2f} % (+- {100 * half:.2f}) with the logger")
    used, walls = np.sum(shown, axis=0)
    print(f"what shows it: {begun:.1f} CPU s to its run, then {60 * used / walls:.2f} a minute")


@contextmanager
def _watching(job: Job) -> Iterator[int]:
    """Show a study while the context lasts, which begins when its run is open; give the process's id."""
    ChunkLog(job, job.members[-1:]).add_epochs([{"epoch": 1, "train_loss": [1.0]}])
    command = [sys.executable, "-m", "experiments.loggers.watch", str(job.folder)]
    watch = subprocess.Popen(command, env=wandb_environment(), stdin=subprocess.PIPE)
    try:
        assert watch.stdin
        watch.stdin.write(b"{}\n")
        watch.stdin.flush()
        runs = f"wandb/*run-*-{study_run_id('live', job.folder)}/*.wandb"
        while not any(path.stat().st_size > 0 for path in job.folder.glob(runs)):
            assert watch.poll() is None
            time.sleep(0.1)
        yield watch.pid
    finally:
        watch.communicate()


def _cpu_seconds(process: int) -> float:
    """Return the CPU seconds of a process and of its children, W&B's service."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if process in (int(path.parent.name), int(fields[1])):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main(sys.argv[1:])
