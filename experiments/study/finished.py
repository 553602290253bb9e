"""What of a study's jobs is finished, and what is left to do.

A member that is finished stays so whatever the number of shards: a job counts as finished when the finished
shards of another cut hold all of its members.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.members import Member
from experiments.settings.config import Job
from experiments.settings.shards import read_shard_name, shard_members
from experiments.study.files import listed
from experiments.study.job_folder import has_failed, is_done, job_folder


def is_finished(job: Job) -> bool:
    """Say whether the tables of a job's members are all there, as they were written."""
    return unfinished([job]) == []


def unfinished(jobs: Sequence[Job]) -> list[Job]:
    """Return those of a study's `jobs` that are not finished."""
    left = [job for job in jobs if not is_done(job_folder(job))]
    cuts = cuts_of_jobs(left[0].folder) if left else {}
    return [job for job in left if not set(job.members) <= set().union(*finished_cuts(job, cuts).values())]


def is_left_alone(job: Job) -> bool:
    """Say whether some of a job's members failed, and are not to be trained again."""
    return job.cut.retry == "none" and has_failed(job_folder(job))


def cuts_of_jobs(study: Path) -> dict[str, list[Path]]:
    """Return the folders of a study's jobs, by the name of the whole job."""
    cuts: dict[str, list[Path]] = {}
    for folder in listed(study / "jobs"):
        cuts.setdefault(read_shard_name(folder.name)[0], []).append(folder)
    return cuts


def finished_cuts(job: Job, cuts: Mapping[str, list[Path]]) -> dict[Path, set[Member]]:
    """Return the finished shards of other cuts of the same whole job, each with its members."""
    shards = 1 if job.cut.shard is None else job.cut.shards
    others = {folder: read_shard_name(folder.name) for folder in cuts.get(job.whole_name, [])}
    return {
        folder: set(shard_members(job.all_members, other)[shard - 1])
        for folder, (_, shard, other) in others.items()
        if other != shards and shard <= other <= len(job.all_members) and is_done(folder)
    }
