"""Which versions of the code, of its packages, and of the numbers a study's parts are of."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.checks import regular_file
from experiments.study.environment import ENVIRONMENT, environment
from experiments.study.files import listed

NUMBERS_VERSION = 1
"""The version of the numbers: raise it with a change of the code by which a member comes out otherwise.

A study takes members of one version alone, unless somebody says job.mix_versions=true. Code that recorded none
made version 0.
"""


def other_versions(study: Path) -> str | None:
    """Return in a sentence which parts of a study were made with other versions than those now; None if none."""
    now, folders = _versions(environment()), listed(study / "jobs")
    others: dict[str, set[str]] = {}
    count = 0
    for folder in folders:
        before = _read_versions(folder / ENVIRONMENT)
        differing = {key: before.get(key, "unknown") for key in now if before.get(key, "unknown") != now[key]}
        count += bool(differing)
        for key, value in differing.items():
            others.setdefault(key, set()).add(value)
    if not others:
        return None
    parts = [f"{key} {' and '.join(sorted(values))}, now {now[key]}" for key, values in others.items()]
    return (
        f"{study}: {count} of the {len(folders)} parts there were made with other versions "
        f"({'; '.join(parts)}); the report lists every one"
    )


def _versions(record: Mapping[str, Any]) -> dict[str, str]:
    """Return what two parts of a study should have in common, of an environment as `environment` gives it."""
    commit = {
        "commit": (record.get("git_commit") or "unknown")[:10],
        "changes since": record.get("git_diff") or "none",
    }
    return commit | dict(record["packages"])


def _read_versions(path: Path) -> dict[str, str]:
    try:
        return _versions(json.loads(regular_file(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
