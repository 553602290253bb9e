"""What jobs are called beside each other: by what tells those of one command apart."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.checks import shown
from experiments.settings.config import Job


def label_jobs(jobs: Sequence[Job], swept_keys: Sequence[str]) -> dict[str, str]:
    """Return the label of each job by its name, "width 64, shard 2": no two are alike."""
    labels = {job.name: _label(job, swept_keys) for job in jobs}
    count = Counter(labels.values())
    return {name: label if count[label] == 1 else f"{label} {name[-8:]}" for name, label in labels.items()}


def _label(job: Job, swept_keys: Sequence[str]) -> str:
    words = [f"{key.rpartition('.')[2]} {_value(job.config, key)}" for key in swept_keys]
    words = words or [f"{job.data.name} {job.model.name} width {job.model.width}"]
    shard = [] if job.cut.shard is None else [f"shard {job.cut.shard}"]
    return ", ".join([*words, *shard])


def _value(config: Mapping[str, Any], key: str) -> str:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return shown(value["name"] if isinstance(value, Mapping) and "name" in value else value)
