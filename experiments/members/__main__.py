"""Members of a study: `python -m experiments.members outputs/STUDY drop placement=before_bn seed=3`.

`drop` removes members, which are then missing, and says which command trains them again; `rerun` trains them again
at once. The columns that tell members apart select them; several values stand with a comma between them.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from analysis.schema import MEMBER_KEY, typed_row
from experiments.checks import ConfigError
from experiments.command import exit_status
from experiments.members import Member, member_of
from experiments.run import check_plan, complete
from experiments.settings.config import Job
from experiments.settings.plan import Plan
from experiments.study.earlier import settle
from experiments.study.environment import ENVIRONMENT
from experiments.study.inventory import take_inventory
from experiments.study.locks import study_lock
from experiments.study.merge import merge_tables
from experiments.study.part import LISTS, Part, read_job, remove_part, rewrite_part
from experiments.study.selection import check_there, select_rows

Selected = list[tuple[Part, set[Member]]]


def main() -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.members",
        description="Drop members of a study, which are missing then, or train them again.",
    )
    parser.add_argument("study", type=Path, help="the study's folder, for example outputs/variance_shift")
    parser.add_argument("what", choices=["drop", "rerun"], help="what to do")
    parser.add_argument("selection", nargs="+", metavar="COLUMN=VALUE", help=", ".join(MEMBER_KEY))
    options = parser.parse_args()
    work = drop if options.what == "drop" else rerun
    return exit_status(lambda: work(options.study, options.selection))


def drop(study: Path, selection: Sequence[str]) -> int:
    """Drop the members of a study that are as all of `selection` says, and merge it anew; return the exit status.

    Each part that holds some is written anew, all or nothing. Raises ConfigError when there are none.
    """
    with _kept(study):
        selected = _select(study, selection)
        commands = [_command(study), *(_command(part.folder) for part, _ in selected)]
        _drop(study, selected)
    for command in dict.fromkeys(filter(None, commands)):
        print(f"train them again: {command}")
    return 0


def rerun(study: Path, selection: Sequence[str]) -> int:
    """Train the members of a study that are as all of `selection` says again; return the exit status.

    They are trained in this process and those it starts, by the configuration that they were trained by. Raises
    ConfigError when there are none, or when this version would not take them for the same members.
    """
    with _kept(study):
        selected = _select(study, selection)
        plan = Plan(_jobs(study, selected), swept_keys=[])
        check_plan(plan)
        _drop(study, selected)
        return complete(plan)


@contextmanager
def _kept(study: Path) -> Iterator[None]:
    """Keep a study to this process, settled. Raises ConfigError for what is none, which is left as it is."""
    check_there(study)
    with study_lock(study):
        settle(study)
        yield


def _select(study: Path, selection: Sequence[str]) -> Selected:
    """Return each part that holds members as `selection` says, and which."""
    parts: dict[Path, Part] = {}
    members: dict[Path, set[Member]] = {}
    for part, row in select_rows(study, selection):
        parts[part.folder] = part
        members.setdefault(part.folder, set()).add(member_of(row))
    return [(part, members[folder]) for folder, part in parts.items()]


def _drop(study: Path, selected: Selected) -> None:
    """Write parts anew without the members selected, each all or nothing, and merge the study."""
    for part, lost in selected:
        left = replace(part, **{key: [m for m in getattr(part, key) if m not in lost] for key in LISTS})
        if left.finished or left.unfinished:

            def kept(rows: list[dict[str, str]], lost: set[Member] = lost) -> list[dict[str, str]]:
                return [row for row in rows if member_of(typed_row(row)) not in lost]

            rewrite_part(part.folder, left, kept)
        else:
            remove_part(part.folder)
    merge_tables(take_inventory(study))
    dropped = {(part.setting, member) for part, lost in selected for member in lost}
    print(f"dropped {len(dropped)} members of {study}")


def _jobs(study: Path, selected: Selected) -> list[Job]:
    """Return jobs of the members selected, each member in one, wherever the study lies by now."""
    folder = study.resolve()
    jobs: list[Job] = []
    taken: set[tuple[str, Member]] = set()
    for part, members in selected:
        made = read_job(part.folder)
        if made.setting_name != part.setting or not members <= set(made.members):
            raise ConfigError(
                f"{part.folder}: another version of the code wrote it, which has other keys; drop its members, "
                "and train them by the command of the study"
            )
        mine = [m for m in made.members if m in members and (part.setting, m) not in taken]
        taken |= {(part.setting, member) for member in mine}
        if mine:
            jobs.append(replace(made, output=str(folder.parent), study=folder.name, members=mine))
    return jobs


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
