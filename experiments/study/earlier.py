"""Studies that an earlier version wrote: their jobs' folders are made into parts.

There a folder held the job of a whole command or a shard of it, and its record did not say which members finished.
"""

import sys
from contextlib import suppress
from pathlib import Path

from analysis.schema import typed_row
from experiments.checks import ConfigError
from experiments.members import member_of
from experiments.study.files import is_there, listed
from experiments.study.locks import is_free
from experiments.study.part import (
    FAILED,
    PARTS,
    WORK,
    Part,
    has_ended,
    is_damaged,
    put_in_place,
    read_job,
    read_part,
    remove_part,
    rewrite_part,
)
from experiments.study.tables import read_table


def settle(study: Path) -> None:
    """Put parts in their place that a killed process had written, and make parts of what an earlier version wrote.

    Nobody else may be at work on the study. Whatever stops this, the next call goes on from there.
    """
    for work in listed(study / WORK):
        if is_free(work):
            put_in_place(work)
    for folder in listed(study / PARTS):
        if not has_ended(folder) and not is_there(folder / "members.csv"):
            print(f"{folder}: removed, as it was never finished; its members start over", file=sys.stderr)
            remove_part(folder)
        elif has_ended(folder) and read_part(folder) is None:
            with suppress(ConfigError, ValueError, LookupError):  # what no version wrote stays as it is
                _make_part(folder)


def _make_part(folder: Path) -> None:
    """Make a part of an earlier version's folder; a damaged one takes the name by which it is trained again."""
    job = read_job(folder)
    place = folder.with_name(job.name)
    if folder.name.startswith(job.setting_name):  # a part whose record is damaged
        return
    if is_damaged(folder):
        if not is_there(place):
            folder.rename(place)
        return
    rows = [typed_row(row) for row in read_table(folder / "members.csv")]
    lost = {member_of(row) for row in rows if row["status"] == "failed"}
    if is_there(folder / FAILED) and not lost:  # all were trained, and the transplants failed
        lost = {member_of(row) for row in rows if row["noise"] != "none"}
    members = sorted((member_of(row) for row in rows), key=lambda member: member.order)
    finished, unfinished = ([m for m in members if (m in lost) == failed] for failed in (False, True))

    def change(table: list[dict[str, str]]) -> list[dict[str, str]]:
        table.sort(key=lambda row: member_of(typed_row(row)).order)
        return [row | {"job": job.setting_name} for row in table]

    rewrite_part(folder, Part(place, finished, unfinished, numbers=0), change)
    remove_part(folder)
