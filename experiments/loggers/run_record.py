"""What a run of W&B holds, whatever it is about."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from experiments.checks import regular_file

Cell = str | int | float
Row = dict[str, Cell]

# Horizontal axes. Lists and charts are in the order of the alphabet, where these come last.
EPOCH, LAYER, STRENGTH = "x/epoch", "x/layer", "x/strength"


@dataclass(frozen=True)
class Lines:
    """A picture of several lines, (x, y) pairs by the line's name."""

    title: str
    x_name: str
    lines: dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class RunRecord:
    """Everything that one run of W&B holds.

    Attributes:
        run_id: W&B's identifier, the same whenever the same member of the same study is exported.
        name, group, job_type, tags, notes: as W&B lists the run.
        config: what was set before training.
        history: rows to log in order; each drawn against the axis that it holds.
        axes: for a key of `history`, or a pattern such as layer/*, the key that is its horizontal axis.
        summary: values beside the last ones of `history`.
        tables, pictures, images: media, by key; an image is a PNG file.
        artifacts: files that are kept with the run, by the artifact's type.
        exit_code: 0, or 1 for a member that failed.
    """

    run_id: str
    name: str
    group: str
    job_type: str
    tags: list[str]
    config: dict[str, Any]
    history: list[Row]
    axes: dict[str, str]
    summary: dict[str, Any]
    tables: dict[str, list[Row]] = field(default_factory=dict)
    pictures: dict[str, Lines] = field(default_factory=dict)
    images: dict[str, Path] = field(default_factory=dict)
    artifacts: dict[str, list[Path]] = field(default_factory=dict)
    notes: str = ""
    exit_code: int = 0

    def digest(self) -> str:
        """Checksum of all of it, files included: equal records make equal runs."""
        content = asdict(self) | {
            "images": {key: _checksum(path) for key, path in self.images.items()},
            "artifacts": {
                kind: {path.name: _checksum(path) for path in paths} for kind, paths in self.artifacts.items()
            },
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _checksum(path: Path) -> str:
    return hashlib.sha256(regular_file(path).read_bytes()).hexdigest()


def plain(text: str) -> str:
    """Return a text with a dash for what W&B takes in no identifier."""
    return re.sub(r"[^\w.-]+", "-", text, flags=re.ASCII)


def study_run_id(kind: str, study: Path) -> str:
    """Return the identifier of the one run of this kind that a study has."""
    name = study.resolve().name
    return f"{kind}-{plain(name)[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"
