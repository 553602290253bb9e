"""The tables of a whole study, made of those of its parts."""

import json
from collections.abc import Iterator
from pathlib import Path

from experiments.members import Member
from experiments.study.files import is_there, write_text
from experiments.study.inventory import Inventory
from experiments.study.part import LISTS, Part, checksum
from experiments.study.tables import TABLES, Rows, join_tables


def merge_tables(inventory: Inventory) -> None:
    """Write a study's tables: the rows of its members, setting by setting, in the order of members.

    Neither when nor by which command a member was trained makes a difference. The sha256 of each table goes to
    merged.json, by which a report sees that somebody edited one.
    """
    study, kept = inventory.study, kept_members(inventory.parts)
    for name, columns in TABLES.items():
        there = [(part, members) for part, members in kept if is_there(part.folder / name)]
        if there or name == "members.csv":
            join_tables(study / name, columns, _side_by_side(there, name))
        else:
            (study / name).unlink(missing_ok=True)
    written = {name: checksum(study / name) for name in TABLES if is_there(study / name)}
    write_text(study / "merged.json", json.dumps(written, indent=2))


def kept_members(parts: list[Part]) -> list[tuple[Part, list[Member]]]:
    """Return the parts whose rows a study shows, and of which members in their order; each member is shown once.

    One that several parts hold is shown as finished if it is finished in one.
    """
    owners: dict[tuple[str, Member], Part] = {}
    for which in LISTS:
        for part in parts:
            for member in getattr(part, which):
                owners.setdefault((part.setting, member), part)
    kept: dict[Path, list[Member]] = {}
    for (_, member), part in owners.items():
        kept.setdefault(part.folder, []).append(member)
    return [
        (part, sorted(kept[part.folder], key=lambda member: member.order))
        for part in parts
        if part.folder in kept
    ]


def _side_by_side(parts: list[tuple[Part, list[Member]]], name: str) -> Iterator[list[Rows]]:
    """Yield the rows of a table in groups, in their order: only within a group must rows be put in order."""
    group: list[Rows] = []
    last = None
    for part, members in sorted(parts, key=lambda kept: (kept[0].setting, kept[1][0].order)):
        whole = len(members) == len(part.finished) + len(part.unfinished)
        if last is None or (part.setting, members[0].order) > last:
            if group:
                yield group
            group = []
        group.append(Rows(part.folder / name, None if whole else frozenset(members)))
        last = max(last or ("",), (part.setting, members[-1].order))
    if group:
        yield group
