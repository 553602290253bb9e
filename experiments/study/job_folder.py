"""A job's folder: made, filled, and marked done once its tables are whole; and what it says of itself later."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from analysis.schema import typed_row
from experiments.checks import ConfigError
from experiments.members import member_of
from experiments.settings.config import Job, make_job
from experiments.study.environment import write_environment
from experiments.study.files import write_text
from experiments.study.tables import TABLES, read_table, write_table

# libyaml, where there is one, is ten times as fast as Python.
LOADER, DUMPER = (getattr(yaml, f"C{name}", getattr(yaml, name)) for name in ("SafeLoader", "SafeDumper"))
DONE, FAILED, ERRORS = "done.json", "failed.json", "errors.txt"


def job_folder(job: Job) -> Path:
    """Return where a job's own tables lie."""
    return job.folder / "jobs" / job.name


def job_tables(job: Job) -> list[str]:
    """Return which of TABLES a job writes: flips.csv only when it is asked for."""
    return [name for name in TABLES if name != "flips.csv" or job.measure.flips]


def start_job(job: Job) -> None:
    """Make a job's folder and write down its configuration and environment.

    Tables that are no longer what was written are removed; those of a job of which some members failed stay
    until the new ones replace them.
    """
    folder = job_folder(job)
    folder.mkdir(parents=True, exist_ok=True)
    if not has_failed(folder):
        for name in (DONE, FAILED, ERRORS, *reversed(TABLES)):
            (folder / name).unlink(missing_ok=True)
    write_text(
        folder / "config.yaml", yaml.dump(job.config, Dumper=DUMPER, sort_keys=False, allow_unicode=True)
    )
    write_environment(folder)


def finish_job(job: Job, rows: Mapping[str, Sequence[Mapping]], errors: Sequence[str]) -> None:
    """Write a job's `rows`, a list for each of `job_tables(job)`, and the tracebacks of its `errors`.

    Without errors it is marked done, so that the same command runs it no more.
    """
    folder = job_folder(job)
    names = job_tables(job)
    for name in names:
        write_table(folder / name, TABLES[name], rows[name])
    checksums = json.dumps({name: _checksum(folder / name) for name in names})
    if errors:
        write_text(folder / ERRORS, "\n".join(errors))
        write_text(folder / FAILED, checksums)
    else:
        write_text(folder / DONE, checksums)
        for name in (FAILED, ERRORS):
            (folder / name).unlink(missing_ok=True)


def finished_rows(job: Job) -> dict[str, list[dict[str, Any]]]:
    """Return the typed rows of each table that a job already holds of members that did not fail."""
    folder = job_folder(job)
    if not has_failed(folder):
        return {name: [] for name in job_tables(job)}
    rows = {name: [typed_row(row) for row in read_table(folder / name)] for name in job_tables(job)}
    failed = {member_of(row) for row in rows["members.csv"] if row["status"] == "failed"}
    return {name: [row for row in table if member_of(row) not in failed] for name, table in rows.items()}


def has_ended(folder: Path) -> bool:
    """Say whether the job in `folder` has written its tables, whatever is in them."""
    return _record(folder) is not None


def is_done(folder: Path) -> bool:
    """Say whether the job in `folder` ran to its end with all of its members, and its tables are whole."""
    return (folder / DONE).exists() and not is_damaged(folder)


def has_failed(folder: Path) -> bool:
    """Say whether the job in `folder` ran to its end, but without some of its members."""
    record = _record(folder)
    return record is not None and record.name == FAILED and not is_damaged(folder)


def is_damaged(folder: Path) -> bool:
    """Say whether the job in `folder` once wrote its tables, and they are no longer what they were then.

    Raises OSError for what is there and cannot be read: that is no damage.
    """
    record = _record(folder)
    if record is None:
        return False
    try:
        checksums = json.loads(record.read_text())
        return not checksums or any(checksums[name] != _checksum(folder / name) for name in checksums)
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
        return True


def read_config(folder: Path) -> Any:
    """Return what the config.yaml in a job's folder holds. Raises OSError, ValueError, yaml.YAMLError."""
    return yaml.load((folder / "config.yaml").read_bytes(), LOADER)


def read_job(folder: Path) -> Job:
    """Return the job that ran in `folder`, by its config.yaml. Raises ConfigError for one of another version."""
    try:
        config = read_config(folder)
        if isinstance(config, dict):
            config.pop("kind", None)  # of studies from before the mode study had a command of its own
        return make_job(config)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            f"study={folder.parents[1].name}: {folder / 'config.yaml'} is none of this version's ({error}); "
            "choose another study=NAME"
        ) from error


def _record(folder: Path) -> Path | None:
    """Return the file that says how the job in `folder` ended; None while it has not."""
    return next((folder / name for name in (DONE, FAILED) if (folder / name).exists()), None)


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
