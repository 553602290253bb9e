"""Which members may join a study: they differ in nothing but what its rows tell apart."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.checks import ConfigError, shown
from experiments.settings.config import RESULT_KEYS, Job, axes_of_growth, flatten
from experiments.settings.plan import Plan
from experiments.study.files import check_writable, listed
from experiments.study.inventory import Inventory
from experiments.study.part import PARTS, has_ended, read_job, recorded_data
from experiments.study.versions import NUMBERS_VERSION

# Where members of one study may differ too; another name has keys of its own.
NAMED_SECTIONS = ("data", "model")


def results_there(study: Path) -> dict[Path, int]:
    """Return when each part of a study was written: what `check_study` depends on."""
    return {path: path.stat().st_mtime_ns for path in listed(study / PARTS)}


def check_study(plan: Plan) -> None:
    """Raise ConfigError when members may not join their study, or the study's folder cannot be written.

    Members of one study may differ in data set, architecture, their own numbers, batch size and whatever this
    command sweeps. A study that holds results made otherwise is left alone; what it holds already may go on.
    """
    for folder in (plan.folder, plan.folder / PARTS):
        check_writable(folder, f"output={plan.jobs[0].output}")
    for key, folder in plan.folders.items():
        check_writable(folder, f"{key}={folder}")
    parts = [folder for folder in listed(plan.folder / PARTS) if has_ended(folder)]
    there = {folder.name.rpartition("-")[0] for folder in parts}
    # Most jobs are alike in all that must be: each kind is compared once, also in a study of thousands.
    settings = {job.setting_name: job for job in plan.jobs}
    kinds: dict[str, dict[str, Any]] = {}
    for job in (job for name, job in settings.items() if name not in there):
        bound = _bound(job, plan.swept_keys)
        kinds.setdefault(json.dumps(bound), bound)
    compared: set[str] = set()
    for folder in parts if kinds else []:
        if folder.name.rpartition("-")[0] in settings:
            continue
        bound = _bound(read_job(folder), plan.swept_keys)
        if (kind := json.dumps(bound)) in compared:
            continue
        compared.add(kind)
        for new in kinds.values():
            for key, before, now in _differences(bound, new):
                raise ConfigError(
                    f"study={plan.folder.name}: {plan.folder} holds results of {key}={before}, this command "
                    f"has {key}={now}; choose another study=NAME"
                )


def check_numbers(jobs: Sequence[Job], inventory: Inventory) -> None:
    """Raise ConfigError when a study that is to grow holds numbers of another version of this code."""
    others = [part for part in inventory.parts if part.numbers != NUMBERS_VERSION]
    if others and not jobs[0].cut.mix_versions and any(inventory.to_train(job).members for job in jobs):
        versions = " and ".join(sorted({str(part.numbers) for part in others}))
        raise ConfigError(
            f"job.mix_versions=false: {len(others)} of the {len(inventory.parts)} parts of {inventory.study} "
            f"hold numbers of version {versions}, this code makes version {NUMBERS_VERSION}; choose another "
            "study=NAME, or set it to true"
        )


def check_same_data(study: Path, fingerprints: Mapping[str, str]) -> None:
    """Raise ConfigError when a study's results were made with data of the same name and other contents.

    `fingerprints` are those of the data sets that are there now, by name. A result of a version that recorded none
    is not compared.
    """
    for folder in listed(study / PARTS):
        name, before = recorded_data(folder) or ("", "")
        if fingerprints.get(name, before) != before:
            raise ConfigError(
                f"data={name}: {folder} was trained on other data ({before}; now there are "
                f"{fingerprints[name]}); choose another study=NAME, or set data.root to the data of that time"
            )


def _bound(job: Job, swept_keys: Sequence[str]) -> dict[str, Any]:
    """Return what must be alike in all jobs of a study, and the names of data and network, by dotted key."""
    axes = axes_of_growth(swept_keys)
    names = [f"{section}.name" for section in NAMED_SECTIONS]
    config = job.config
    return {
        key: value
        for key, value in flatten({section: config[section] for section in RESULT_KEYS})
        if key in names or not f"{key}.".startswith(axes)
    }


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (key, old value, new value) where two jobs differ in what must be alike."""
    others = tuple(f"{part}." for part in NAMED_SECTIONS if old[f"{part}.name"] != new[f"{part}.name"])
    return [
        (key, shown(old.get(key)), shown(new.get(key)))
        for key in {**old, **new}
        if old.get(key) != new.get(key) and not key.startswith(others)
    ]
