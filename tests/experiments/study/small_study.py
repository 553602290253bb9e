"""A study of small jobs whose tables are written without training anything."""

import copy
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from experiments.members import Member
from experiments.settings.config import Job, make_job
from experiments.study.inventory import take_inventory
from experiments.study.part import finish_part, start_part
from tests.experiments.small import small_job

SEEDS = {"seed": [0, 1]}


def make(folder: Path, members: dict | None = None, **changes: object) -> Job:
    """A small job in the study `folder`; changes are dotted keys with __ for the dots."""
    config = copy.deepcopy(small_job({"none": True} | SEEDS | (members or {})).config)
    config |= {"output": str(folder.parent), "study": folder.name}
    for dotted, value in changes.items():
        *sections, key = dotted.split("__")
        section = config
        for name in sections:
            section = section[name]
        section[key] = value
    return make_job(config)


def row(job: Job, member: Member) -> dict:
    return {"job": job.setting_name, "width": job.model.width, **asdict(member)}


def rows_of(job: Job, epoch: int = 1, failed: Sequence[Member] = ()) -> dict[str, list[dict]]:
    """A row for each member in each table; one that failed has one in members.csv alone."""
    rows = [row(job, member) for member in job.members if member not in failed]
    return {
        "members.csv": [
            row(job, m) | {"status": "failed" if m in failed else "ok", "steps": epoch} for m in job.members
        ],
        "layers.csv": [r | {"layer_index": 1} for r in rows],
        "epochs.csv": [r | {"epoch": epoch} for r in rows],
    }


def finish(
    job: Job, failed: Sequence[Member] = (), errors: Sequence[str] = (), fingerprint: str = "", epoch: int = 1
) -> Job:
    """Write a part with a row for each member of a job."""
    start_part(job)
    finish_part(job, rows_of(job, epoch, failed), failed, errors, fingerprint)
    return job


def is_there(job: Job) -> bool:
    """Whether the study holds all members of a job."""
    return not take_inventory(job.folder).missing(job)
