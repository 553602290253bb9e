"""A study's folder: what is finished, what may join it, and its tables.

outputs/STUDY/members.csv, layers.csv, epochs.csv    all jobs together
outputs/STUDY/flips.csv                  only of jobs that were asked for it (measure.flips)
outputs/STUDY/environment.json           where and by which command jobs were last added
outputs/STUDY/multirun.yaml              Hydra's record of the last sweep: overrides, launcher, sweeper
outputs/STUDY/jobs/JOB/                  a job's own tables, config.yaml, environment.json
outputs/STUDY/jobs/JOB/errors.txt        tracebacks, when members failed
outputs/STUDY/jobs/JOB/done.json         checksums of the job's tables; only a finished job has it
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from omegaconf import OmegaConf

from experiments.checks import ConfigError, shown
from experiments.config import DATA_KEYS_WITHOUT_EFFECT, RESULT_KEYS, Job, make_job
from experiments.environment import environment
from experiments.plan import Plan
from experiments.tables import (
    EPOCH_COLUMNS,
    FLIP_COLUMNS,
    LAYER_COLUMNS,
    MEMBER_COLUMNS,
    read_table,
    write_table,
)

# Of the files members.csv is written last: where it is, the others are too.
TABLES = {
    "flips.csv": FLIP_COLUMNS,
    "epochs.csv": EPOCH_COLUMNS,
    "layers.csv": LAYER_COLUMNS,
    "members.csv": MEMBER_COLUMNS,
}
# Where jobs of one study may differ, because their rows say so.
OPEN_KEYS = ("data.name", "model.name", "model.width", "model.depth", "model.norm")


def job_tables(job: Job) -> list[str]:
    """Return which of TABLES a job writes: flips.csv only when it is asked for."""
    return [name for name in TABLES if name != "flips.csv" or job.config["measure"]["flips"]]


def job_folder(job: Job) -> Path:
    """Return where a job's own tables lie."""
    return job.folder / "jobs" / job.name


def is_finished(job: Job) -> bool:
    """Say whether a job's tables are all there, as they were written."""
    folder = job_folder(job)
    return (folder / "done.json").exists() and not is_damaged(folder)


def is_damaged(folder: Path) -> bool:
    """Say whether the job in `folder` was finished once, and its tables are no longer what they were then."""
    if not (folder / "done.json").exists():
        return False
    try:
        checksums = json.loads((folder / "done.json").read_text())
        return not checksums or any(checksums[name] != _checksum(folder / name) for name in checksums)
    except (OSError, ValueError, LookupError, TypeError):
        return True


def start_job(job: Job) -> None:
    """Make a job's folder, empty of earlier results, and write down its configuration and environment."""
    folder = job_folder(job)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("done.json", "errors.txt", *reversed(TABLES)):
        (folder / name).unlink(missing_ok=True)
    _write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(job.config)))
    _write_text(folder / "environment.json", json.dumps(environment(), indent=2))


def finish_job(job: Job, rows: Mapping[str, Sequence[Mapping]], errors: Sequence[str]) -> None:
    """Write a job's `rows`, a list for each of `job_tables(job)`, and the tracebacks of its `errors`.

    Without errors it is marked done, so that the same command runs it no more.
    """
    folder = job_folder(job)
    names = job_tables(job)
    for name in names:
        write_table(folder / name, TABLES[name], rows[name])
    if errors:
        _write_text(folder / "errors.txt", "\n".join(errors))
    else:
        _write_text(folder / "done.json", json.dumps({name: _checksum(folder / name) for name in names}))


def merge_tables(folder: Path) -> list[str]:
    """Write the study's tables from those of its jobs, in the order of the jobs' names.

    Return the names of jobs that were left out because their tables are damaged.
    """
    jobs = sorted(path.parent for path in folder.glob("jobs/*/members.csv"))
    whole = [job for job in jobs if not is_damaged(job)]
    for name, columns in TABLES.items():
        having = [job for job in whole if (job / name).exists()]
        if having or name == "members.csv":
            write_table(folder / name, columns, (row for job in having for row in read_table(job / name)))
    return [job.name for job in jobs if job not in whole]


def record_environment(folder: Path) -> None:
    """Write down where and by which command a study grew."""
    _write_text(folder / "environment.json", json.dumps(environment(), indent=2))


def check_study(plan: Plan) -> None:
    """Raise ConfigError when a job may not join its study, or the study's folder cannot be written.

    Jobs of one study may differ in data set, architecture and whatever this command sweeps. A study that holds
    results made otherwise is left alone.
    """
    check_writable(plan.folder)
    names = {job.name for job in plan.jobs}
    for file in sorted(plan.folder.glob("jobs/*/config.yaml")):
        if file.parent.name in names or not file.with_name("members.csv").exists():
            continue
        old = _read_job(file)
        for job in plan.jobs:
            for key, before, now in _differences(old.config, job.config, plan.swept_keys):
                raise ConfigError(
                    f"study={plan.folder.name}: {plan.folder} holds results of {key}={before}, this command has "
                    f"{key}={now}; choose another study=NAME"
                )
            if job.overlaps(old):
                raise ConfigError(
                    f"study={plan.folder.name}: {file.parent} holds some of the members of this command already; "
                    "leave them out or choose another study=NAME"
                )


def _read_job(config_file: Path) -> Job:
    try:
        return make_job(OmegaConf.to_container(OmegaConf.load(config_file)))  # type: ignore[arg-type]
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            f"study={config_file.parents[2].name}: {config_file} is none of this version's ({error}); "
            "choose another study=NAME"
        ) from error


def _differences(old: Mapping, new: Mapping, swept_keys: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return (key, old value, new value) where two jobs differ in what must be alike within a study."""
    free = [*OPEN_KEYS, *swept_keys, *(f"data.{key}" for key in DATA_KEYS_WITHOUT_EFFECT)]
    # Another data set or network has settings of its own.
    free += [section for section in ("data", "model") if old[section]["name"] != new[section]["name"]]
    olds, news = (dict(_flatten({key: job[key] for key in RESULT_KEYS})) for job in (old, new))
    return [
        (key, shown(olds.get(key)), shown(news.get(key)))
        for key in {**olds, **news}
        if olds.get(key) != news.get(key) and not any(f"{key}.".startswith(f"{other}.") for other in free)
    ]


def _flatten(config: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def check_writable(folder: Path) -> None:
    """Raise ConfigError unless `folder` is, or can be made, a folder to write in."""
    existing = folder
    try:
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        # Access rights tell only half: file systems can be read-only, and root is told that all is allowed.
        with TemporaryDirectory(prefix=".", dir=existing):
            pass
    except OSError as error:
        raise ConfigError(
            f"output={folder.parent}: allowed is a folder that can be written ({existing}: {error.strerror})"
        ) from error


def _write_text(path: Path, text: str) -> None:
    """Write a small file, all or nothing."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
