"""The tables of members: how they are written. Their columns are those of `analysis.schema`."""

import csv
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from analysis import schema
from experiments.checks import regular_file
from experiments.study.files import all_or_nothing, naming

COPIED_AT_ONCE = 1 << 20  # characters

# Of the files of a study, members.csv is written last: where it is, the others are too.
TABLES = {
    name: schema.TABLES[name].columns for name in ("flips.csv", "epochs.csv", "layers.csv", "members.csv")
}


def write_table(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows as CSV, all or nothing: the file appears complete or not at all.

    Numbers are written with the digits that give the same double back; None and nan as nothing.
    """
    with all_or_nothing(path, newline="") as file:
        _write_rows(file, list(columns), rows, header=True)


def join_tables(path: Path, columns: Iterable[str], parts: Iterable[Path]) -> None:
    """Write the rows of all tables `parts`, one behind the other, as one table with these columns.

    Tables that have these columns are copied as they are, which takes no memory to speak of.
    """
    names = list(columns)
    with all_or_nothing(path, newline="") as file:
        _write_rows(file, names, [], header=True)
        for part in parts:
            with regular_file(part).open(newline="", encoding="utf-8") as source:
                if source.readline().rstrip("\r\n") == ",".join(names):
                    shutil.copyfileobj(source, file, COPIED_AT_ONCE)
                    continue
            # Written by a version with other columns: what this one does not have is left out.
            rows = ({name: row.get(name) for name in names} for row in read_table(part))
            _write_rows(file, names, rows, header=False)


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
