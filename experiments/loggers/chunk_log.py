"""How a chunk's training goes, as lines of a file that whoever shows it reads while training goes on.

STUDY/.work/PART/live/CHUNK.jsonl    a line an epoch: {"axis": "epoch", "at": 3, "loss": {GROUP: 0.2}}

A group is the members of a chunk that differ by their seed alone; a value is their mean, without diverged ones.
Only the process that trains a chunk writes its file, and that it cannot be written stops no training.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import isfinite
from statistics import fmean

from analysis.theory.noises import NO_NOISE, family
from experiments.loggers.watch import FOLDER
from experiments.members import Member
from experiments.settings.config import Job
from experiments.study.part import work_folder
from experiments.study.rows import Row

# Columns that are shown: their section.
OF_EPOCHS = {"train_loss": "loss", "test_error": "error"}


def begin_logs(job: Job) -> None:
    """Remove what was logged of a part that nobody finished."""
    shutil.rmtree(work_folder(job) / FOLDER, ignore_errors=True)


class ChunkLog:
    """The log of one chunk, begun anew; of a job without a logger nothing is written."""

    def __init__(self, job: Job, members: Sequence[Member]):
        self._groups = _groups(members)
        self._epochs = 0
        name = hashlib.sha256(repr(members).encode()).hexdigest()[:16]
        self._file = None if job.logger is None else work_folder(job) / FOLDER / f"{name}.jsonl"
        if self._file:
            with suppress(OSError):
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._file.write_text("")

    def add_epochs(self, records: Sequence[Mapping[str, list[float] | float]]) -> None:
        """Log the epochs of `records`, all until now, that are not logged yet."""
        if self._file:
            for record in records[self._epochs :]:
                shown = {name: record[name] for name in OF_EPOCHS if name in record}
                self._write("epoch", record["epoch"], {OF_EPOCHS[name]: shown[name] for name in shown})
            self._epochs = len(records)

    def add_results(self, epochs: int, tables: Mapping[str, Sequence[Row]]) -> None:
        """Log what came out: the test error at the last epoch, and the shift ratio of each BN layer."""
        if self._file:
            errors = [row.get("test_error") for row in tables["members.csv"]]
            self._write("epoch", epochs, {"error": errors})
            layers = tables["layers.csv"]
            for index in dict.fromkeys(row["layer_index"] for row in layers):
                of_layer = [row.get("shift_ratio") for row in layers if row["layer_index"] == index]
                self._write("layer", index, {"shift": of_layer})

    def _write(self, axis: str, at: object, sections: Mapping[str, object]) -> None:
        means = {section: self._means(values) for section, values in sections.items()}
        line = json.dumps({"axis": axis, "at": at, **{name: mean for name, mean in means.items() if mean}})
        assert self._file
        with suppress(OSError), self._file.open("a") as file:
            file.write(line + "\n")

    def _means(self, values: object) -> dict[str, float]:
        """Return the mean of `values`, one a member, over each group that has any."""
        assert isinstance(values, list)
        known = {
            group: [v for i in indices if (v := values[i]) is not None and isfinite(v)]
            for group, indices in self._groups.items()
        }
        return {group: fmean(found) for group, found in known.items() if found}


def _groups(members: Sequence[Member]) -> dict[str, list[int]]:
    """Return the places of the members of each group, by its name: before_bn dropout 0.5."""
    several_recipes = len({(member.lr, member.weight_decay) for member in members}) > 1
    groups: dict[str, list[int]] = {}
    for index, member in enumerate(members):
        noise = family(member.noise)
        words = [] if noise is NO_NOISE else [member.placement]
        words.append(noise.label(member.strength))
        words += [f"lr {member.lr:g} weight decay {member.weight_decay:g}"] if several_recipes else []
        groups.setdefault(" ".join(words), []).append(index)
    return groups
