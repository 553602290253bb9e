"""Reading W&B's offline runs back, with W&B's own program."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd


def run_folders(study: Path) -> list[Path]:
    return sorted((study / "wandb").glob("offline-run-*"))


def inspect(folder: Path) -> dict[str, Any]:
    """A run's state: name, config, summary, tags, exit_code and more."""
    return json.loads(_leet_inspect(folder, "--summary", "--json"))


def history(folder: Path) -> pd.DataFrame:
    """A run's logged rows, numbers only."""
    records = [json.loads(line) for line in _leet_inspect(folder, "--json").splitlines()]
    rows = [record["history"]["item"] for record in records if record["type"] == "history"]
    return pd.DataFrame(
        [{key: value for key, value in row.items() if not isinstance(value, dict)} for row in rows]
    )


def run_header(folder: Path) -> dict[str, Any]:
    """What a run says of itself when it starts: group, job type and so on."""
    records = [json.loads(line) for line in _leet_inspect(folder, "--json").splitlines()]
    return next(record["run"] for record in records if record["type"] == "run")


def _leet_inspect(folder: Path, *flags: str) -> str:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", *flags, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
