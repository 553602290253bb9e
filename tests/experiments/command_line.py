"""The command line as tests type it, planned or in a process of its own, and what it leaves behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from experiments.settings.plan import Plan, plan_jobs
from experiments.study.tables import read_table
from tests.places import ROOT

TABLES = ("members.csv", "layers.csv", "epochs.csv")  # of a study that asks for no more
TIMES = ["seconds", "seconds_measuring"]
SWEEP = [
    "+sweep=variance_shift", "study=variance_shift", "members.seed=[0,1]", "members.dropout.rate=[0.2,0.4]",
    "members.uout=null", "members.gaussian=null",
]  # fmt: skip


def plan(*arguments: str) -> Plan:
    """What a command line will do; nothing is read or written."""
    flags = {"-m"} & set(arguments)
    return plan_jobs([argument for argument in arguments if argument not in flags], multirun=bool(flags))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "experiments.run", *arguments]


def of_its_own(folder: Path, words: list[str], **options) -> subprocess.Popen:
    """A program of these words in `folder`, the leader of a process group of its own."""
    return subprocess.Popen(
        words,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[subprocess.Popen]:
    """The command line in `folder`."""
    with of_its_own(folder, command(*arguments)) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def tables(study: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    return pd.read_csv(study / "members.csv"), pd.read_csv(study / "layers.csv")


def results(folder) -> dict[str, list[dict[str, str]]]:
    """The merged tables of a study as text, less the columns of time."""
    return {
        name: [
            {key: value for key, value in row.items() if not key.startswith("seconds")}
            for row in read_table(folder / name)
        ]
        for name in TABLES
    }


def wait_for(condition, seconds: float = 60.0) -> None:
    """Wait until `condition()` is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
