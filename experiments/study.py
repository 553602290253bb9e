"""A study's folder: what is finished, what may join it, and its tables.

outputs/STUDY/members.csv, layers.csv, epochs.csv    all jobs together
outputs/STUDY/flips.csv                  only of jobs that were asked for it (measure.flips)
outputs/STUDY/modes.csv                  statements about train() and eval(), see experiments/modes (kind=modes)
outputs/STUDY/environment.json           where and by which command jobs were last added
outputs/STUDY/multirun.yaml              Hydra's record of the last sweep: overrides, launcher, sweeper
outputs/STUDY/jobs/JOB/                  a job's own tables, config.yaml, environment.json
outputs/STUDY/jobs/JOB/checkpoints/      where training stands, while it goes on (recipe.checkpoint_every)
outputs/STUDY/jobs/JOB/done.json         checksums of the job's tables; only a finished job has it
outputs/STUDY/jobs/JOB/failed.json       the same of a job some of whose members failed
outputs/STUDY/jobs/JOB/errors.txt        tracebacks of these members
outputs/STUDY/jobs/JOB-shard2of4/        a job that was cut has a folder for each of its shards

A member that is finished stays so whatever the number of shards: a job counts as finished when the finished
shards of another cut hold all of its members.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from experiments.checks import ConfigError, shown
from experiments.config import (
    DATA_KEYS_WITHOUT_EFFECT,
    RECIPE_KEYS_WITHOUT_EFFECT,
    RESULT_KEYS,
    Job,
    make_job,
)
from experiments.environment import environment
from experiments.members import Member
from experiments.plan import Plan
from experiments.shards import read_shard_name, shard_members
from experiments.tables import (
    EPOCH_COLUMNS,
    FLIP_COLUMNS,
    LAYER_COLUMNS,
    MEMBER_COLUMNS,
    join_tables,
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
DONE, FAILED = "done.json", "failed.json"
# Where jobs of one study may differ, because their rows say so.
OPEN_KEYS = ("data.name", "model.name", "model.width", "model.depth", "model.norm")


def job_tables(job: Job) -> list[str]:
    """Return which of TABLES a job writes: flips.csv only when it is asked for."""
    return [name for name in TABLES if name != "flips.csv" or job.config["measure"]["flips"]]


def job_folder(job: Job) -> Path:
    """Return where a job's own tables lie."""
    return job.folder / "jobs" / job.name


def is_finished(job: Job) -> bool:
    """Say whether the tables of a job's members are all there, as they were written."""
    return unfinished([job]) == []


def unfinished(jobs: Sequence[Job]) -> list[Job]:
    """Return those of a study's `jobs` that are not finished."""
    left = [job for job in jobs if not _is_done(job_folder(job))]
    cuts = _cuts_of_jobs(left[0].folder) if left else {}
    return [job for job in left if not set(job.members) <= set().union(*_finished_cuts(job, cuts).values())]


def is_damaged(folder: Path) -> bool:
    """Say whether the job in `folder` once wrote its tables, and they are no longer what they were then."""
    record = _record(folder)
    if record is None:
        return False
    try:
        checksums = json.loads(record.read_text())
        return not checksums or any(checksums[name] != _checksum(folder / name) for name in checksums)
    except (OSError, ValueError, LookupError, TypeError):
        return True


def has_ended(job: Job) -> bool:
    """Say whether a job has written its tables, whatever is in them."""
    return _record(job_folder(job)) is not None


def has_failed(folder: Path) -> bool:
    """Say whether the job in `folder` ran to its end, but without some of its members."""
    record = _record(folder)
    return record is not None and record.name == FAILED and not is_damaged(folder)


def is_left_alone(job: Job) -> bool:
    """Say whether some of a job's members failed, and are not to be trained again."""
    return job.config["job"]["retry"] == "none" and has_failed(job_folder(job))


@contextmanager
def job_lock(job: Job) -> Iterator[None]:
    """Keep a job to this process; wait while another one is at work on it.

    On a cluster a job may still run when the command that launched it has been stopped and typed again.
    """
    folder = job_folder(job)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{job.name}: another process is at work on it; waiting for its end", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def finished_rows(job: Job) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each table that a job already holds of members that did not fail.

    The values that identify a member are numbers again, all others the text of the table.
    """
    folder = job_folder(job)
    if not has_failed(folder):
        return {name: [] for name in job_tables(job)}
    rows = {name: [row | _member_of(row) for row in read_table(folder / name)] for name in job_tables(job)}
    failed = {tuple(_member_of(row).values()) for row in rows["members.csv"] if row["status"] == "failed"}
    return {
        name: [row for row in table if tuple(_member_of(row).values()) not in failed]
        for name, table in rows.items()
    }


def start_job(job: Job) -> None:
    """Make a job's folder and write down its configuration and environment.

    Tables that are no longer what was written are removed; those of a job of which some members failed stay
    until the new ones replace them.
    """
    folder = job_folder(job)
    folder.mkdir(parents=True, exist_ok=True)
    if not has_failed(folder):
        for name in (DONE, FAILED, "errors.txt", *reversed(TABLES)):
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
    checksums = json.dumps({name: _checksum(folder / name) for name in names})
    if errors:
        _write_text(folder / "errors.txt", "\n".join(errors))
        _write_text(folder / FAILED, checksums)
    else:
        _write_text(folder / DONE, checksums)
        for name in (FAILED, "errors.txt"):
            (folder / name).unlink(missing_ok=True)


def merge_tables(folder: Path) -> list[str]:
    """Write the study's tables from those of its jobs, in the order of the jobs' names and shards.

    What a finished job holds is taken from nowhere else: not from a job of another cut that did not finish.
    Return the names of jobs that were left out because their tables are damaged.
    """
    jobs = [path for path in folder.glob("jobs/*") if _record(path) is not None]
    damaged = sorted(job.name for job in jobs if is_damaged(job))
    whole = _without_repeats([job for job in jobs if job.name not in damaged])
    for name, columns in TABLES.items():
        having = [job / name for job in whole if (job / name).exists()]
        if having or name == "members.csv":
            join_tables(folder / name, columns, having)
        else:
            (folder / name).unlink(missing_ok=True)
    return damaged


def record_environment(folder: Path) -> None:
    """Write down where and by which command a study grew."""
    _write_text(folder / "environment.json", json.dumps(environment(), indent=2))


def check_study(plan: Plan) -> None:
    """Raise ConfigError when a job may not join its study, or the study's folder cannot be written.

    Jobs of one study may differ in data set, architecture and whatever this command sweeps. A study that holds
    results made otherwise is left alone.
    """
    check_writable(plan.folder)
    _check_cuts(plan)
    wholes = {job.whole_name: job for job in plan.jobs}
    for file in sorted(plan.folder.glob("jobs/*/config.yaml")):
        if read_shard_name(file.parent.name)[0] in wholes or _record(file.parent) is None:
            continue
        old = _read_job(file)
        for job in wholes.values():
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


def _check_cuts(plan: Plan) -> None:
    """Raise ConfigError when a job would train members again that a shard of another cut has finished."""
    cuts = _cuts_of_jobs(plan.folder)
    for job in unfinished(plan.jobs):
        for folder, members in _finished_cuts(job, cuts).items():
            if not members.isdisjoint(job.members):
                shards = read_shard_name(folder.name)[2]
                raise ConfigError(
                    f"job.shards={job.config['job']['shards']}: {folder} holds some of the members of {job.name} "
                    f"already; go on with job.shards={shards} or a multiple of it, or choose another study=NAME"
                )


def _cuts_of_jobs(study: Path) -> dict[str, list[Path]]:
    """Return the folders of a study's jobs, by the name of the whole job."""
    cuts: dict[str, list[Path]] = {}
    for folder in sorted(study.glob("jobs/*")):
        cuts.setdefault(read_shard_name(folder.name)[0], []).append(folder)
    return cuts


def _finished_cuts(job: Job, cuts: Mapping[str, list[Path]]) -> dict[Path, set[Member]]:
    """Return the finished shards of other cuts of the same whole job, each with its members."""
    shards = 1 if job.config["job"]["shard"] is None else job.config["job"]["shards"]
    others = {folder: read_shard_name(folder.name) for folder in cuts.get(job.whole_name, [])}
    return {
        folder: set(shard_members(job.all_members, other)[shard - 1])
        for folder, (_, shard, other) in others.items()
        if other != shards and shard <= other <= len(job.all_members) and _is_done(folder)
    }


def _without_repeats(folders: Sequence[Path]) -> list[Path]:
    """Return the folders of jobs in the order of their rows, less those whose members others hold already.

    Only a job that was cut in several ways repeats members; what is finished goes before what failed.
    """
    names = {folder: read_shard_name(folder.name) for folder in folders}
    cuts: dict[str, set[int]] = {}
    for whole, _, shards in names.values():
        cuts.setdefault(whole, set()).add(shards)
    taken: dict[str, set[Member]] = {}
    kept = []
    for folder in sorted(folders, key=lambda folder: (not _is_done(folder), folder.name)):
        whole, _, _ = names[folder]
        if len(cuts[whole]) > 1:
            members = set(_read_job(folder / "config.yaml").members)
            if not taken.setdefault(whole, set()).isdisjoint(members):
                continue
            taken[whole] |= members
        kept.append(folder)
    return sorted(kept, key=lambda folder: (names[folder][0], (names[folder][1] - 1) / names[folder][2]))


def _record(folder: Path) -> Path | None:
    """Return the file that says how the job in `folder` ended; None while it has not."""
    return next((folder / name for name in (DONE, FAILED) if (folder / name).exists()), None)


def _is_done(folder: Path) -> bool:
    return (folder / DONE).exists() and not is_damaged(folder)


def _member_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a table's row that makes a Member, as the types that it has there."""
    return {field.name: field.type(row[field.name]) for field in fields(Member)}  # type: ignore[operator]


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
    free += [f"recipe.{key}" for key in RECIPE_KEYS_WITHOUT_EFFECT]
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
