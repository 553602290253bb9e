"""A job's folder: made, filled, and marked done once its tables are whole; and what it says of itself later.

The mark, done.json or failed.json, is the job's record: which job it is, the data that it was trained on, and the
sha256 of each of its tables.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from analysis.schema import typed_row
from experiments.checks import ConfigError, one_line, regular_file, shown
from experiments.members import member_of
from experiments.settings.config import RESULT_KEYS, Job, make_job
from experiments.study.environment import write_environment
from experiments.study.files import is_there, naming, write_text
from experiments.study.tables import TABLES, read_table, write_table

CONFIG = "config.yaml"
# libyaml, where there is one, is ten times as fast as Python.
LOADER, DUMPER = (getattr(yaml, f"C{name}", getattr(yaml, name)) for name in ("SafeLoader", "SafeDumper"))
DONE, FAILED, ERRORS = "done.json", "failed.json", "errors.txt"
NEW = ".new"  # folder of tables that are being written


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
    write_text(folder / CONFIG, yaml.dump(job.config, Dumper=DUMPER, sort_keys=False, allow_unicode=True))
    write_environment(folder)


def finish_job(
    job: Job, rows: Mapping[str, Sequence[Mapping]], errors: Sequence[str], fingerprint: str | None = None
) -> None:
    """Write a job's `rows`, a list for each of `job_tables(job)`, and the tracebacks of its `errors`.

    What was there stays until all is written. Without errors the job is marked done, so that the same command runs
    it no more. `fingerprint` is that of its data, None when they could not be read.
    """
    folder = job_folder(job)
    new = folder / NEW
    new.mkdir(exist_ok=True)
    for name in job_tables(job):
        write_table(new / name, TABLES[name], rows[name])
    if errors:
        write_text(new / ERRORS, "\n".join(errors))
    record = {
        "job": job.name,
        "data": {"name": job.data.name, "fingerprint": fingerprint},
        "tables": {name: checksum(new / name) for name in job_tables(job)},
    }
    write_text(new / (FAILED if errors else DONE), json.dumps(record, indent=2))
    move_new_tables(folder)


def move_new_tables(folder: Path) -> None:
    """Put what a job has written in its place, once all is written; go on where somebody was stopped at that."""
    new = folder / NEW
    if (record := _record_file(new)) is None:
        return
    for name in (*TABLES, ERRORS, record.name):
        if is_there(new / name):
            (new / name).replace(folder / name)
    shutil.rmtree(new)
    if record.name == DONE:
        remove_leftovers(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove, from the folder of a job that is done, what says that it once was not."""
    for file in (folder / FAILED, folder / ERRORS, *folder.glob(".*.partial")):
        file.unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        shutil.rmtree(folder / NEW)


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
    return _record_file(folder) is not None


def is_done(folder: Path) -> bool:
    """Say whether the job in `folder` ran to its end with all of its members, and its tables are whole."""
    return is_there(folder / DONE) and not is_damaged(folder)


def has_failed(folder: Path) -> bool:
    """Say whether the job in `folder` ran to its end, but without some of its members."""
    file = _record_file(folder)
    return file is not None and file.name == FAILED and not is_damaged(folder)


def is_damaged(folder: Path) -> bool:
    """Say whether the tables in a job's `folder` are no longer what it once wrote, or are those of another job.

    Raises OSError for what is there and cannot be read: that is no damage.
    """
    file = _record_file(folder)
    if file is None:
        return False
    try:
        record = json.loads(regular_file(file).read_text())
        # Of a version that recorded checksums alone.
        job, checksums = record.get("job", folder.name), record.get("tables", record)
        return (
            job != folder.name
            or not checksums
            or any(checksums[name] != checksum(folder / name) for name in checksums)
        )
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
        return True


def recorded_data(folder: Path) -> tuple[str, str] | None:
    """Return the name and the fingerprint of the data that the job in `folder` was trained on.

    None where it does not say so: before its end, in a study of an earlier version, in a damaged record.
    """
    file = _record_file(folder)
    try:
        data = json.loads(regular_file(file).read_text())["data"] if file else {}
        return (data["name"], data["fingerprint"]) if data["fingerprint"] is not None else None
    except (ValueError, LookupError, TypeError):
        return None


def read_config(folder: Path) -> dict[str, Any]:
    """Return what the config.yaml of the job in `folder` holds. Raises ConfigError for what no job has written."""
    try:
        config: Any = yaml.load(regular_file(folder / CONFIG).read_bytes(), LOADER)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise _of_another_version(folder, f"{type(error).__name__}: {shown(one_line(error))}") from error
    for key in RESULT_KEYS:
        if not isinstance(config, Mapping) or not isinstance(config.get(key), Mapping):
            raise _of_another_version(folder, f"no section {key}")
    return dict(config)


def read_job(folder: Path) -> Job:
    """Return the job that ran in `folder`, by its config.yaml. Raises ConfigError for one of another version."""
    config = read_config(folder)
    config.pop("kind", None)  # of studies from before the mode study had a command of its own
    try:
        return make_job(config)
    except ConfigError as error:
        raise _of_another_version(folder, str(error)) from error


def _of_another_version(folder: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"study={folder.parents[1].name}: {folder / CONFIG} is none of this version's ({reason}); "
        f"choose another study=NAME, or remove {folder}, whose job then runs again"
    )


def _record_file(folder: Path) -> Path | None:
    """Return the file that says how the job in `folder` ended; None while it has not."""
    return next((folder / name for name in (DONE, FAILED) if is_there(folder / name)), None)


def checksum(path: Path) -> str:
    """Return the sha256 of a file."""
    with naming(path), regular_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
