"""The tables of members: how they are written. Their columns are those of `analysis.schema`."""

import csv
import heapq
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import IO, NamedTuple

from analysis import schema
from experiments.checks import regular_file
from experiments.members import Member, member_of
from experiments.study.files import all_or_nothing, naming

COPIED_AT_ONCE = 1 << 20  # characters
READ_AT_ONCE = 1 << 16  # bytes

# Of the files of a study, members.csv is written last: where it is, the others are too.
TABLES = {
    name: schema.TABLES[name].columns for name in ("flips.csv", "epochs.csv", "layers.csv", "members.csv")
}


class Rows(NamedTuple):
    """Rows of a table whose members stand in their order: those of `members`, or all."""

    path: Path
    members: frozenset[Member] | None = None


def write_table(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows as CSV, all or nothing: the file appears complete or not at all.

    Numbers are written with the digits that give the same double back; None and nan as nothing.
    """
    with all_or_nothing(path, newline="") as file:
        _write_rows(file, list(columns), rows, header=True)


def join_tables(path: Path, columns: Iterable[str], groups: Iterable[Sequence[Rows]]) -> None:
    """Write the rows of all groups, one group behind the other, as one table with these columns.

    A group of one table that has these columns is copied as it is. The tables of a larger group are merged in the
    order of their members. Neither takes memory to speak of.
    """
    names = list(columns)
    with all_or_nothing(path, newline="") as file:
        _write_rows(file, names, [], header=True)
        for group in groups:
            if len(group) == 1 and group[0].members is None and columns_of(group[0].path) == names:
                with group[0].path.open(newline="", encoding="utf-8") as source:
                    source.readline()
                    shutil.copyfileobj(source, file, COPIED_AT_ONCE)
                continue
            in_order = heapq.merge(*(_by_member(rows, names) for rows in group), key=itemgetter(0))
            writer = csv.writer(file, lineterminator="\n")
            for _, of_member in in_order:
                writer.writerows(of_member)


def _by_member(rows: Rows, names: list[str]) -> Iterator[tuple[tuple, list[list[str]]]]:
    """Yield the order of each member of a table that counts, and its rows, cut to the columns `names`.

    Columns that a table lacks, because another version wrote it, are empty.
    """
    there = columns_of(rows.path)
    names_of_member = [field.name for field in fields(Member)]
    identify = itemgetter(*map(there.index, names_of_member))
    places = [there.index(name) if name in there else None for name in names]
    lines = csv.reader(_lines(rows.path))
    next(lines)
    for words, of_member in groupby(lines, identify):
        member = member_of(schema.typed_row(dict(zip(names_of_member, words, strict=True))))
        if rows.members is None or member in rows.members:
            yield (
                member.order,
                [["" if place is None else line[place] for place in places] for line in of_member],
            )


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file that is open only while some are read: a thousand may be merged at once."""
    start = 0
    while True:
        with path.open("rb") as file:
            file.seek(start)
            lines = file.readlines(READ_AT_ONCE)
        if not lines:
            return
        start += sum(map(len, lines))
        yield from (line.decode() for line in lines)


def columns_of(path: Path) -> list[str]:
    """Return the names of a table's columns."""
    with naming(path), regular_file(path).open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file), [])


def read_table(path: Path) -> list[dict[str, str]]:
    """Read the rows of a table as text."""
    with naming(path), regular_file(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write_rows(
    file: IO[str], columns: list[str], rows: Iterable[Mapping[str, object]], header: bool
) -> None:
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


def _cell(value: object) -> object:
    # nan is the only value that differs from itself.
    return "" if value is None or value != value else value
