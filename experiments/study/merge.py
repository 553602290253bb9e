"""The tables of a whole study, made of those of its jobs."""

import json
from collections.abc import Sequence
from pathlib import Path

from experiments.members import Member
from experiments.settings.shards import read_shard_name
from experiments.study.files import is_there, listed, write_text
from experiments.study.job_folder import checksum, has_ended, is_damaged, is_done, read_job
from experiments.study.tables import TABLES, join_tables


def merge_tables(folder: Path) -> list[str]:
    """Write the study's tables from those of its jobs, in the order of the jobs' names and shards.

    What a finished job holds is taken from nowhere else: not from a job of another cut that did not finish. The
    sha256 of each table goes to merged.json, by which a report sees that somebody edited one.
    Return the names of jobs that were left out because their tables are damaged.
    """
    jobs = [path for path in listed(folder / "jobs") if has_ended(path)]
    damaged = sorted(job.name for job in jobs if is_damaged(job))
    whole = _without_repeats([job for job in jobs if job.name not in damaged])
    for name, columns in TABLES.items():
        having = [job / name for job in whole if is_there(job / name)]
        if having or name == "members.csv":
            join_tables(folder / name, columns, having)
        else:
            (folder / name).unlink(missing_ok=True)
    written = {name: checksum(folder / name) for name in TABLES if (folder / name).exists()}
    write_text(folder / "merged.json", json.dumps(written, indent=2))
    return damaged


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
    for folder in sorted(folders, key=lambda folder: (not is_done(folder), folder.name)):
        whole, _, _ = names[folder]
        if len(cuts[whole]) > 1:
            members = set(read_job(folder).members)
            if not taken.setdefault(whole, set()).isdisjoint(members):
                continue
            taken[whole] |= members
        kept.append(folder)
    return sorted(kept, key=lambda folder: (names[folder][0], (names[folder][1] - 1) / names[folder][2]))
