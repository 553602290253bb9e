"""Which jobs may join a study: they differ in nothing but what its rows tell apart, and repeat no member."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.checks import ConfigError, shown
from experiments.members import Member
from experiments.settings.config import (
    DATA_KEYS_WITHOUT_EFFECT,
    RECIPE_KEYS_WITHOUT_EFFECT,
    RESULT_KEYS,
    Job,
)
from experiments.settings.plan import Plan
from experiments.settings.shards import read_shard_name
from experiments.study.files import check_writable, is_there, listed
from experiments.study.finished import cuts_of_jobs, finished_cuts, unfinished
from experiments.study.job_folder import has_ended, read_job, recorded_data

# Where jobs of one study may differ, because their rows say so; another name has keys of its own.
NAMED_SECTIONS = ("data", "model")
OPEN_KEYS = ("model.width", "model.depth", "model.norm")


def results_there(folder: Path) -> dict[Path, int]:
    """Return when each job of the study in `folder` was last begun: what `check_study` depends on."""
    return {path: path.stat().st_mtime_ns for path in _configurations(folder)}


def check_study(plan: Plan) -> None:
    """Raise ConfigError when a job may not join its study, or the study's folder cannot be written.

    Jobs of one study may differ in data set, architecture and whatever this command sweeps. A study that holds
    results made otherwise is left alone.
    """
    for folder in (plan.folder, plan.folder / "jobs"):
        check_writable(folder, f"output={plan.jobs[0].output}")
    for key, folder in plan.folders.items():
        check_writable(folder, f"{key}={folder}")
    _check_cuts(plan)
    wholes = {job.whole_name: job for job in plan.jobs}
    # Most jobs are alike in all that must be: each kind is compared once, also in a study of thousands.
    kinds: dict[str, dict[str, Any]] = {}
    trained: dict[str, set[Member]] = {}
    for job in wholes.values():
        bound = _bound(job, plan.swept_keys)
        kinds.setdefault(json.dumps(bound), bound)
        trained.setdefault(job.setting, set()).update(job.all_members)
    compared: set[str] = set()
    for file in _configurations(plan.folder):
        if read_shard_name(file.parent.name)[0] in wholes or not has_ended(file.parent):
            continue
        old = read_job(file.parent)
        bound = _bound(old, plan.swept_keys)
        if (kind := json.dumps(bound)) not in compared:
            compared.add(kind)
            for new in kinds.values():
                for key, before, now in _differences(bound, new):
                    raise ConfigError(
                        f"study={plan.folder.name}: {plan.folder} holds results of {key}={before}, this command "
                        f"has {key}={now}; choose another study=NAME"
                    )
        if not trained.get(old.setting, set()).isdisjoint(old.all_members):
            raise ConfigError(
                f"study={plan.folder.name}: {file.parent} holds some of the members of this command already; "
                "leave them out or choose another study=NAME"
            )


def check_same_data(study: Path, fingerprints: Mapping[str, str]) -> None:
    """Raise ConfigError when a study's results were made with data of the same name and other contents.

    `fingerprints` are those of the data sets that are there now, by name. A result of a version that recorded none
    is not compared.
    """
    for folder in listed(study / "jobs"):
        name, before = recorded_data(folder) or ("", "")
        if fingerprints.get(name, before) != before:
            raise ConfigError(
                f"data={name}: {folder} was trained on other data ({before}; now there are "
                f"{fingerprints[name]}); choose another study=NAME, or set data.root to the data of that time"
            )


def _configurations(study: Path) -> list[Path]:
    return [file for job in listed(study / "jobs") if is_there(file := job / "config.yaml")]


def _check_cuts(plan: Plan) -> None:
    """Raise ConfigError when a job would train members again that a shard of another cut has finished."""
    cuts = cuts_of_jobs(plan.folder)
    for job in unfinished(plan.jobs):
        for folder, members in finished_cuts(job, cuts).items():
            if not members.isdisjoint(job.members):
                shards = read_shard_name(folder.name)[2]
                raise ConfigError(
                    f"job.shards={job.cut.shards}: {folder} holds some of the members of {job.name} "
                    f"already; go on with job.shards={shards} or a multiple of it, or choose another study=NAME"
                )


def _bound(job: Job, swept_keys: Sequence[str]) -> dict[str, Any]:
    """Return what must be alike in all jobs of a study, and the names of data and network, by dotted key."""
    free = [*OPEN_KEYS, *swept_keys, *(f"data.{key}" for key in DATA_KEYS_WITHOUT_EFFECT)]
    free += [f"recipe.{key}" for key in RECIPE_KEYS_WITHOUT_EFFECT]
    names = [f"{section}.name" for section in NAMED_SECTIONS]
    config = job.config
    return {
        key: value
        for key, value in _flatten({section: config[section] for section in RESULT_KEYS})
        if key in names or not any(f"{key}.".startswith(f"{other}.") for other in free)
    }


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (key, old value, new value) where two jobs differ in what must be alike."""
    others = tuple(f"{part}." for part in NAMED_SECTIONS if old[f"{part}.name"] != new[f"{part}.name"])
    return [
        (key, shown(old.get(key)), shown(new.get(key)))
        for key in {**old, **new}
        if old.get(key) != new.get(key) and not key.startswith(others)
    ]


def _flatten(config: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
