"""Which versions of the code and of its packages a study's jobs were made with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.checks import regular_file
from experiments.study.environment import ENVIRONMENT, environment
from experiments.study.files import listed
from experiments.study.job_folder import has_ended


def other_versions(study: Path) -> str | None:
    """Return in a sentence which jobs of a study were made with other versions than those now; None if none."""
    now, folders = _versions(environment()), [path for path in listed(study / "jobs") if has_ended(path)]
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
        f"{study}: {count} of the {len(folders)} jobs there were made with other versions "
        f"({'; '.join(parts)}); the report lists every one"
    )


def _versions(record: Mapping[str, Any]) -> dict[str, str]:
    """Return what two jobs of a study should have in common, of an environment as `environment` gives it."""
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
