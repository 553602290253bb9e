"""A study's own command: `python -m experiments.study outputs/STUDY drop placement=before_bn seed=3`.

Drops members, which are then missing, and says which command trains them again. The columns that tell members
apart select them; several values stand with a comma between them.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from analysis.schema import MEMBER_KEY, TEXT, kind_of, typed_row
from experiments.checks import ConfigError
from experiments.command import exit_status
from experiments.members import Member, member_of
from experiments.study.earlier import settle
from experiments.study.environment import ENVIRONMENT
from experiments.study.files import is_there
from experiments.study.inventory import take_inventory
from experiments.study.locks import study_lock
from experiments.study.merge import merge_tables
from experiments.study.part import LISTS, PARTS, Part, remove_part, rewrite_part
from experiments.study.tables import read_table


def main() -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.study",
        description="Drop members of a study: they are missing then, and may be trained again.",
    )
    parser.add_argument("study", type=Path, help="the study's folder, for example outputs/variance_shift")
    parser.add_argument("drop", choices=["drop"], help="what to do")
    parser.add_argument("selection", nargs="+", metavar="COLUMN=VALUE", help=", ".join(MEMBER_KEY))
    options = parser.parse_args()
    return exit_status(lambda: drop(options.study, options.selection))


def drop(study: Path, selection: Sequence[str]) -> int:
    """Drop the members of a study that are as all of `selection` says, and merge it anew; return the exit status.

    Each part that holds some is written anew, all or nothing. Raises ConfigError when there are none.
    """
    values = dict(map(_values, selection))
    if not is_there(study / PARTS):
        raise ConfigError(f"{study}: no study; name its folder, for example outputs/variance_shift")
    with study_lock(study):
        settle(study)
        dropped, commands = 0, [_command(study)]
        for part in take_inventory(study).parts:
            rows = [typed_row(row) for row in read_table(part.folder / "members.csv")]
            lost = {member_of(row) for row in rows if all(row[key] in values[key] for key in values)}
            if lost:
                commands.append(_command(part.folder))
                _drop(part, lost)
                dropped += len(lost)
        if not dropped:
            raise ConfigError(f"{' '.join(selection)}: {study} holds no such member")
        merge_tables(take_inventory(study))
    print(f"dropped {dropped} members of {study}")
    for command in dict.fromkeys(filter(None, commands)):
        print(f"train them again: {command}")
    return 0


def _values(argument: str) -> tuple[str, set]:
    """Return the column that an argument names and the values that it allows, typed as the column is."""
    column, _, text = argument.partition("=")
    if column not in MEMBER_KEY:
        raise ConfigError(f"{argument}: allowed is COLUMN=VALUE, COLUMN one of {', '.join(MEMBER_KEY)}")
    try:
        return column, {word if kind_of(column) == TEXT else float(word) for word in text.split(",")}
    except ValueError as error:
        raise ConfigError(f"{argument}: allowed are numbers") from error


def _drop(part: Part, lost: set[Member]) -> None:
    """Write a part anew without some of its members; without any it goes."""
    left = replace(part, **{key: [m for m in getattr(part, key) if m not in lost] for key in LISTS})
    if left.finished or left.unfinished:
        rewrite_part(
            part.folder, left, lambda rows: [row for row in rows if member_of(typed_row(row)) not in lost]
        )
    else:
        remove_part(part.folder)


def _command(folder: Path) -> str:
    """Return the command by which members in `folder` were trained; nothing where a launcher's worker was it."""
    try:
        record = json.loads((folder / ENVIRONMENT).read_text())
        words = record["command"][1:] if isinstance(record, Mapping) else []
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return shlex.join(["python", *words]) if "experiments.run" in words else ""


if __name__ == "__main__":
    sys.exit(main())
