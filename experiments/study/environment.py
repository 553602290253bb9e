"""What is needed to make a result again: command, code, versions, machine."""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from experiments.study.files import write_text

_PACKAGES = ("torch", "numpy", "hydra-core", "pandas", "scikit-learn")


def write_environment(folder: Path) -> None:
    """Write down, in `folder`'s environment.json, where and by which command its results are made."""
    write_text(folder / "environment.json", json.dumps(environment(), indent=2))


def environment() -> dict[str, Any]:
    """Return what a later reader of a result may ask, as JSON takes it; None for what cannot be known here."""
    import torch

    return {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [sys.executable, *sys.orig_argv[1:]],
        "folder": os.getcwd(),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changes": _git("status", "--porcelain", "--untracked-files=no"),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "machine": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _git(*arguments: str) -> str | None:
    """Return what git says of the harness's own checkout; None where it is not one."""
    # Without optional locks: a process killed in "git status" would leave its lock in the checkout.
    command = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    """Return the processor's name; Linux keeps it in a file, elsewhere platform knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
