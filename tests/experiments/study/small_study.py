"""A study of small jobs whose tables are written without training anything."""

import copy
from pathlib import Path

from experiments.members import Member
from experiments.settings.config import Job, make_job
from experiments.study.job_folder import finish_job, start_job
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
    return {"job": job.name, "width": job.model.width, "seed": member.seed}


def finish(job: Job, errors: tuple[str, ...] = (), fingerprint: str = "") -> Job:
    """Write a job's folder with a row for each member."""
    start_job(job)
    rows = [row(job, member) for member in job.members]
    tables = {
        "members.csv": [r | {"status": "ok"} for r in rows],
        "layers.csv": [r | {"layer_index": 1} for r in rows],
        "epochs.csv": [r | {"epoch": 1} for r in rows],
    }
    finish_job(job, tables, errors, fingerprint)
    return job
