"""What a study says about its own origin: how it was made, by which versions, and whether its tables still are."""

import hashlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pandas as pd

from .files import regular_file
from .schema import UNTIL

FILES = ["environment.json", "jobs/*/config.yaml"]
VERSIONS = ["numbers", "commit", "changes", "packages", "data"]  # in which the parts of a study should agree


def read_provenance(folder: Path) -> dict[str, str]:
    """What a study keeps about its own origin, environment and each job's configuration: path in it -> text."""
    files = [path for pattern in FILES for path in sorted(folder.glob(pattern))]
    return {
        path.relative_to(folder).as_posix(): regular_file(path).read_text(encoding="utf-8", errors="replace")
        for path in files
    }


def origins(folder: Path) -> pd.DataFrame:
    """How the parts of a study were made: a row for every combination of versions, data and machine.

    Columns: `jobs`, their number; `numbers`, the version of the code's numbers; `commit` of this project's code;
    `changes`, the hash of what was changed since; `packages` with their versions; `data`, name and fingerprint of
    the contents; `python`; `machine`. Empty where it was not recorded.
    """
    rows = [_origin(path.parent) for path in sorted(folder.glob("jobs/*/environment.json"))]
    table = pd.DataFrame(rows, columns=pd.Index([*VERSIONS, "python", "machine"])).fillna("").astype(str)
    counted = table.value_counts(sort=False).rename("jobs").reset_index()
    return counted[["jobs", *table.columns]]


def edited_tables(folder: Path) -> list[str]:
    """The names of the study's tables that are no longer what merging its jobs wrote, by merged.json."""
    recorded = read_json(folder / "merged.json")
    return [
        name
        for name, checksum in sorted(recorded.items())
        if not (folder / name).is_file() or _checksum(folder / name) != checksum
    ]


def notes(folder: Path) -> list[str]:
    """What a reader of the study's numbers should know of their origin, a sentence each; mostly there is none."""
    found = []
    if edited := edited_tables(folder):
        found.append(
            f"Since the jobs of this study were merged, {' and '.join(edited)} changed: edited by hand, perhaps. "
            "The command that made the study writes it anew."
        )
    if looks := read_json(folder / UNTIL).get("looks"):
        found.append(
            f"This study was to grow until its claims were decided, looked at with {_listed(looks)} seeds. Each "
            f"look decides a claim wrongly in at most {5 / len(looks):.1f} % of studies, all together in 5 %."
        )
    table = origins(folder)
    for name, what in (
        ("numbers", "versions of the code's numbers"),
        ("commit", "commits of the code"),
        ("changes", "states of a changed checkout"),
        ("packages", "sets of package versions"),
    ):
        if (count := table[name].nunique()) > 1:
            found.append(
                f"The jobs of this study were made by {count} {what}; the end of its report lists them."
            )
    return found


def _listed(numbers: list[int]) -> str:
    return " or ".join(filter(None, [", ".join(map(str, numbers[:-1])), str(numbers[-1])]))


def typed_command(folder: Path) -> str:
    """The command that made a study as somebody else would type it: without this machine's folders.

    Empty where it was not recorded or cannot be read.
    """
    command = read_json(folder / "environment.json").get("command")
    words = [str(word) for word in command] if isinstance(command, list) else []
    if "-m" not in words:
        return ""
    local = ("output=", "processes=")  # what the numbers do not depend on
    typed = ["python", *(word for word in words[words.index("-m") :] if not word.startswith(local))]
    typed = [re.sub(r"=/.*/([^/]+)$", r"=PATH/\1", word) for word in typed]
    return shlex.join(typed)


def sweep_of(folder: Path) -> str:
    """The sweep of conf/sweep that a study was made by; where its command does not say, its folder's name."""
    found = re.search(r"\+sweep=(\w+)", typed_command(folder))
    return found[1] if found else folder.resolve().name


def _origin(job: Path) -> dict[str, str]:
    """How the job in a folder was made."""
    environment = read_json(job / "environment.json")
    record = read_json(job / "done.json") or read_json(job / "failed.json")
    parts = (environment.get("packages"), record.get("data"))
    packages, data = (part if isinstance(part, dict) else {} for part in parts)
    return {
        "numbers": str(record.get("numbers", 0)),  # an earlier layout says none
        "commit": str(environment.get("git_commit") or "unknown")[:10],
        "changes": str(environment.get("git_diff") or ""),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items()),
        "data": f"{data.get('name') or ''} {data.get('fingerprint') or ''}".strip(),
        "python": str(environment.get("python") or ""),
        "machine": ", ".join(
            str(environment[key]) for key in ("processor", "machine") if environment.get(key)
        ),
    }


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's content; empty where there is none, or no object that can be read."""
    try:
        content = json.loads(regular_file(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _checksum(path: Path) -> str:
    with regular_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
