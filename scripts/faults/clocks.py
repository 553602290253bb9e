"""Faults of the clock, by libfaketime."""

import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from scripts.faults.command import wait_for_end
from scripts.faults.study import SWEEP, Outcome, Study

ROOT = Path(__file__).parents[2]
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


def clocks(study: Study, draw: random.Random, count: int, seconds: float) -> Outcome:
    """Let the clock jump by years, in both directions, in the middle of a run that is then killed."""
    if not FAKETIME.exists():
        return Outcome(skipped=f"no {FAKETIME}; apt-get install libfaketime")
    outcome = Outcome()
    setting = study.folder.with_name("clock")
    for _ in range(count):
        study.clear()
        set_clock(setting, draw)
        command = start_with_clock(study, setting)
        with suppress(subprocess.TimeoutExpired):
            command.communicate(timeout=draw.uniform(3, 3 + 2 * seconds))
        set_clock(setting, draw)
        time.sleep(0.5)
        if command.poll() is None:
            command.kill()
            command.communicate(timeout=60)
            wait_for_end(command.pid)
        outcome.tried += 1
        set_clock(setting, draw)
        command = start_with_clock(study, setting)
        _, err = command.communicate(timeout=600)
        study.judge(outcome, command.returncode, err)
    return outcome


def set_clock(setting: Path, draw: random.Random) -> None:
    """Set the clock of libfaketime to a random day within some decades."""
    partial = setting.with_suffix(".partial")
    partial.write_text(f"{draw.randrange(-9000, 3000):+d}d\n")
    partial.replace(setting)


def start_with_clock(study: Study, setting: Path) -> subprocess.Popen:
    """Start the command from nothing, because libfaketime must be loaded first."""
    fake = {
        "LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(setting), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.run", *SWEEP],
        cwd=study.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | fake,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
