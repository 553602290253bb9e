"""A study's folder: what is finished, what may join it, and its two tables.

    outputs/STUDY/members.csv, layers.csv    all jobs together
    outputs/STUDY/environment.json           where and by which command the study was last touched
    outputs/STUDY/jobs/JOB/                  a job's own members.csv, layers.csv, config.yaml, environment.json
    outputs/STUDY/jobs/JOB/done.json         checksums of the job's tables; only a finished job has it
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from experiments.checks import ConfigError
from experiments.config import RESULT_KEYS, Job
from experiments.tables import LAYER_COLUMNS, MEMBER_COLUMNS, read_table, write_table

TABLES = {"members.csv": MEMBER_COLUMNS, "layers.csv": LAYER_COLUMNS}
_PACKAGES = ("torch", "numpy", "hydra-core", "pandas", "scikit-learn")


def job_folder(job: Job) -> Path:
    """Return where a job's own tables lie."""
    return job.folder / "jobs" / job.name


def is_finished(job: Job) -> bool:
    """Say whether a job's tables are all there, as they were written."""
    folder = job_folder(job)
    try:
        checksums = json.loads((folder / "done.json").read_text())
        return all(checksums[name] == _checksum(folder / name) for name in TABLES)
    except (OSError, ValueError, KeyError):
        return False


def start_job(job: Job) -> None:
    """Make a job's folder and write down its configuration and environment."""
    folder = job_folder(job)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "done.json").unlink(missing_ok=True)
    _write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(job.config)))
    _write_text(folder / "environment.json", json.dumps(environment(), indent=2))


def finish_job(job: Job, member_rows: Sequence[Mapping], layer_rows: Sequence[Mapping], complete: bool) -> None:
    """Write a job's tables; mark it done when it is `complete`, so that the same command runs it no more."""
    folder = job_folder(job)
    write_table(folder / "members.csv", MEMBER_COLUMNS, member_rows)
    write_table(folder / "layers.csv", LAYER_COLUMNS, layer_rows)
    if complete:
        _write_text(folder / "done.json", json.dumps({name: _checksum(folder / name) for name in TABLES}))


def merge_tables(folder: Path) -> None:
    """Write the study's members.csv and layers.csv from those of its jobs, in the order of the jobs' names."""
    jobs = sorted(path.parent for path in folder.glob("jobs/*/members.csv"))
    for name, columns in TABLES.items():
        write_table(folder / name, columns, (row for job in jobs for row in read_table(job / name)))
    _write_text(folder / "environment.json", json.dumps(environment(), indent=2))


def check_study(jobs: Sequence[Job], swept_keys: Sequence[str]) -> None:
    """Raise ConfigError when a job may not join the study, or the folder cannot be written.

    Jobs of one study may differ in data, model and whatever this command sweeps. A study that holds results
    made otherwise is left alone.
    """
    for folder in {job.folder for job in jobs}:
        _check_writable(folder)
        planned = [job for job in jobs if job.folder == folder]
        names = {job.name for job in planned}
        for config_file in sorted(folder.glob("jobs/*/config.yaml")):
            if config_file.parent.name in names or not config_file.with_name("members.csv").exists():
                continue
            old = OmegaConf.to_container(OmegaConf.load(config_file))
            differences = [_differences(old, job.config, swept_keys) for job in planned]  # type: ignore[arg-type]
            if all(differences):
                key, before, now = min(differences, key=len)[0]
                raise ConfigError(
                    "study",
                    folder.name,
                    f"another name (study=NAME): {folder} holds results of {key}={before}, this command has {now}",
                )


def environment() -> dict[str, Any]:
    """Return what is needed to make a study again: command, code, versions, machine."""
    import torch

    return {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [sys.executable, *sys.orig_argv[1:]],
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changes": _git("status", "--porcelain", "--untracked-files=no"),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "machine": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _differences(old: Mapping, new: Mapping, swept_keys: Sequence[str]) -> list[tuple[str, Any, Any]]:
    """Return (key, old value, new value) where two jobs differ in what must be alike within a study."""
    old_values = dict(_flatten({key: old.get(key) for key in RESULT_KEYS}))
    new_values = dict(_flatten({key: new.get(key) for key in RESULT_KEYS}))
    return [
        (key, old_values.get(key), new_values.get(key))
        for key in {**old_values, **new_values}
        if old_values.get(key) != new_values.get(key)
        and not key.startswith(("data.", "model."))
        and not any(key == swept or key.startswith(f"{swept}.") for swept in swept_keys)
    ]


def _flatten(config: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _check_writable(folder: Path) -> None:
    """Raise ConfigError unless `folder` is, or can be made, a folder to write in; makes nothing."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError("output", folder.parent, f"a folder that can be written; {existing} cannot")


def _write_text(path: Path, text: str) -> None:
    """Write a small file, all or nothing."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text)
    partial.replace(path)


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _git(*arguments: str) -> str | None:
    """Return what git says of the harness's own checkout; None where it is not one."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
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
