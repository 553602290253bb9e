"""What of a study's jobs is finished, and what is left to do.

A member that is finished stays so whatever the number of shards: a job counts as finished when the finished
shards of another cut hold all of its members.
"""

from collections.abc import Sequence
from pathlib import Path

from experiments.members import Member
from experiments.settings.config import Job
from experiments.settings.shards import read_shard_name, shard_members
from experiments.study.files import listed
from experiments.study.job_folder import has_failed, is_done, job_folder

# Folders of jobs by the name of the whole job, the number of shards, and the shard.
Cuts = dict[str, dict[int, dict[int, Path]]]


def is_finished(job: Job) -> bool:
    """Say whether the tables of a job's members are all there, as they were written."""
    return is_done(job_folder(job)) or _others_hold(job, cuts_of_jobs(job.folder, job.whole_name))


def unfinished(jobs: Sequence[Job]) -> list[Job]:
    """Return those of a study's `jobs` that are not finished."""
    left = [job for job in jobs if not is_done(job_folder(job))]
    cuts = cuts_of_jobs(left[0].folder) if left else {}
    return [job for job in left if not _others_hold(job, cuts)]


def is_left_alone(job: Job) -> bool:
    """Say whether some of a job's members failed, and are not to be trained again."""
    return job.cut.retry == "none" and has_failed(job_folder(job))


def cuts_of_jobs(study: Path, whole: str = "") -> Cuts:
    """Return the folders of a study's jobs; with `whole`, of the job of that name and of its shards alone."""
    cuts: Cuts = {}
    for folder in listed(study / "jobs"):
        if not folder.name.startswith(whole):
            continue
        name, shard, shards = read_shard_name(folder.name)
        cuts.setdefault(name, {}).setdefault(shards, {})[shard] = folder
    return cuts


def finished_cuts(job: Job, cuts: Cuts) -> dict[Path, set[Member]]:
    """Return the finished shards of other cuts of the same whole job, each with its members."""
    own = 1 if job.cut.shard is None else job.cut.shards
    finished = {}
    for shards, folders in cuts.get(job.whole_name, {}).items():
        if shards != own and shards <= len(job.all_members):
            members = shard_members(job.all_members, shards)
            done = [shard for shard, folder in folders.items() if shard <= shards and is_done(folder)]
            finished |= {folders[shard]: set(members[shard - 1]) for shard in done}
    return finished


def _others_hold(job: Job, cuts: Cuts) -> bool:
    """Say whether finished shards of other cuts hold all of a job's members."""
    return set(job.members) <= set().union(*finished_cuts(job, cuts).values())
