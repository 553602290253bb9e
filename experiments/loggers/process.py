"""Processes of their own in which W&B runs, so that nothing it does there reaches training."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_python(arguments: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments, in `wandb_environment`; return its status and what it printed.

    Raises subprocess.TimeoutExpired when it did not end within so many seconds.
    """
    return subprocess.run(
        [sys.executable, *arguments],
        env=wandb_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def wandb_environment() -> dict[str, str]:
    """Return the environment of a process that imports this code, wherever it starts, and uses W&B."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # What is online is said by the configuration, and W&B's service is that process's own.
    kept = {key: value for key, value in os.environ.items() if key not in ("WANDB_MODE", "WANDB_SERVICE")}
    return kept | {"PYTHONPATH": os.pathsep.join(paths)}
