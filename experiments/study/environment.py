"""What is needed to make a result again: command, code, versions, machine."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from experiments.study.files import write_text

ENVIRONMENT = "environment.json"
# The arguments of the command that a call from Python stands for; without one, this program is the command.
_arguments: ContextVar[Sequence[str] | None] = ContextVar("arguments", default=None)
_PACKAGES = ("torch", "numpy", "hydra-core", "pandas", "scikit-learn")


def write_environment(folder: Path) -> None:
    """Write down, in `folder`'s environment.json, where and by which command its results are made."""
    write_text(folder / ENVIRONMENT, json.dumps(environment(), indent=2))


@contextmanager
def standing_for(arguments: Sequence[str]) -> Iterator[None]:
    """Write down `python -m experiments.run` with these arguments as the command, while the context lasts."""
    token = _arguments.set(arguments)
    try:
        yield
    finally:
        _arguments.reset(token)


def environment() -> dict[str, Any]:
    """Return what a later reader of a result may ask, as JSON takes it; None for what cannot be known here."""
    import torch

    arguments = _arguments.get()
    command = sys.orig_argv[1:] if arguments is None else ["-m", "experiments.run", *arguments]
    return {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [sys.executable, *command],
        "folder": os.getcwd(),
        **_code(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "machine": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


@cache
def _code() -> dict[str, str | None]:
    """Return the commit of the harness's own checkout, and of what was changed since a list and a hash.

    All are None where the harness is in no checkout, or in that of a project which does not track it: its commits
    say nothing of this code, for example around an environment that the harness is installed in.
    """
    ours = _git("ls-files", "--error-unmatch", str(Path(__file__))) is not None
    commit, changes, diff = (
        (
            _git("rev-parse", "HEAD"),
            _git("status", "--porcelain", "--untracked-files=no"),
            _git("diff", "HEAD"),
        )
        if ours
        else (None, None, None)
    )
    return {
        "git_commit": commit,
        "git_changes": changes,
        "git_diff": hashlib.sha256(diff.encode(errors="surrogateescape")).hexdigest()[:16] if diff else None,
    }


def _git(*arguments: str) -> str | None:
    """Return what git says in the folder of this file; None where it is no checkout, or git says no."""
    # Without optional locks: a process killed in "git status" would leave its lock in the checkout.
    command = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent), *arguments]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, errors="surrogateescape", check=True)
        return ended.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    """Return the processor's name; Linux keeps it in a file, elsewhere platform knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
