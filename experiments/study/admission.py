"""Which jobs may join a study: they differ in nothing but what its rows tell apart, and repeat no member."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.checks import ConfigError, shown
from experiments.settings.config import DATA_KEYS_WITHOUT_EFFECT, RECIPE_KEYS_WITHOUT_EFFECT, RESULT_KEYS
from experiments.settings.plan import Plan
from experiments.settings.shards import read_shard_name
from experiments.study.files import check_writable
from experiments.study.finished import cuts_of_jobs, finished_cuts, unfinished
from experiments.study.job_folder import has_ended, read_job

# Where jobs of one study may differ, because their rows say so.
OPEN_KEYS = ("data.name", "model.name", "model.width", "model.depth", "model.norm")


def results_there(folder: Path) -> dict[Path, int]:
    """Return when each job of the study in `folder` was last begun: what `check_study` depends on."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("jobs/*/config.yaml")}


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
    for file in sorted(plan.folder.glob("jobs/*/config.yaml")):
        if read_shard_name(file.parent.name)[0] in wholes or not has_ended(file.parent):
            continue
        old = read_job(file.parent)
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
    cuts = cuts_of_jobs(plan.folder)
    for job in unfinished(plan.jobs):
        for folder, members in finished_cuts(job, cuts).items():
            if not members.isdisjoint(job.members):
                shards = read_shard_name(folder.name)[2]
                raise ConfigError(
                    f"job.shards={job.cut.shards}: {folder} holds some of the members of {job.name} "
                    f"already; go on with job.shards={shards} or a multiple of it, or choose another study=NAME"
                )


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
