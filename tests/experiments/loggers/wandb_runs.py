"""Reading W&B's offline runs back, with W&B's own program."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest


@pytest.fixture
def nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the key nor the settings of whoever runs the tests play a part in them."""
    for name in (
        "WANDB_API_KEY",
        "WANDB_BASE_URL",
        "WANDB_MODE",
        "WANDB_DIR",
        "WANDB_PROJECT",
        "WANDB_ENTITY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path.with_name(f"{tmp_path.name}-home")))


def run_folders(study: Path, run_id: str = "*") -> list[Path]:
    return sorted((study / "wandb").glob(f"offline-run-[0-9]*_[0-9]*-{run_id}"))


def run_ids(study: Path) -> list[str]:
    return sorted(folder.name.split("-", 3)[3] for folder in run_folders(study))


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


def artifacts(folder: Path) -> list[dict[str, Any]]:
    """The artifacts that a run keeps."""
    records = [json.loads(line) for line in _leet_inspect(folder, "--json").splitlines()]
    return [record["artifact"] for record in records if record["type"] == "artifact"]


def _leet_inspect(folder: Path, *flags: str) -> str:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", *flags, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
