"""What a study holds, and what of the members that a command wants is missing: that alone is trained.

A member is there when a part that is as it was written holds it finished. In which order, by which commands, in
which cut and on which machines members came makes no difference: shards, retries, growth and resuming are this one
rule.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.members import Member
from experiments.settings.config import Job
from experiments.study.files import listed
from experiments.study.part import PARTS, Part, has_ended, is_damaged, read_part, remove_part


@dataclass(frozen=True)
class Inventory:
    """The parts of a study that are as they were written, the others, and the members there by setting.

    `saved` are the finished ones whose weights are there.
    """

    study: Path
    parts: list[Part]
    damaged: list[Path]
    finished: dict[str, set[Member]]
    unfinished: dict[str, set[Member]]
    saved: dict[str, set[Member]]

    def missing(self, job: Job) -> list[Member]:
        """Return the members that a job wants and the study does not hold, or not with the weights it wants."""
        there = (self.saved if job.saves else self.finished).get(job.setting_name, set())
        return [member for member in job.members if member not in there]

    def to_train(self, job: Job) -> Job:
        """Return the job of what is missing; with job.retry=none less what failed before."""
        left = self.unfinished.get(job.setting_name, set()) if job.cut.retry == "none" else set()
        return replace(job, members=[member for member in self.missing(job) if member not in left])


def remove_made_up(inventory: Inventory) -> list[Path]:
    """Remove damaged parts all of whose members other parts hold by now; return the damaged ones that are left."""
    left = []
    for folder in inventory.damaged:
        part = read_part(folder)
        if part and set(part.finished) <= inventory.finished.get(part.setting, set()):
            remove_part(folder)
        else:
            left.append(folder)
    return left


def take_inventory(study: Path, setting: str = "", among: Collection[Member] | None = None) -> Inventory:
    """Look at a study's parts; with `setting` and `among` at those alone that hold some of these members.

    Raises OSError for what cannot be read for now.
    """
    wanted = None if among is None else set(among)
    found = Inventory(study, [], [], {}, {}, {})
    for folder in listed(study / PARTS):
        if not folder.name.startswith(setting) or not has_ended(folder):
            continue
        part = read_part(folder)
        if part and wanted is not None and wanted.isdisjoint([*part.finished, *part.unfinished]):
            continue
        if part is None or is_damaged(folder):
            found.damaged.append(folder)
            continue
        found.parts.append(part)
        found.finished.setdefault(part.setting, set()).update(part.finished)
        found.unfinished.setdefault(part.setting, set()).update(part.unfinished)
        found.saved.setdefault(part.setting, set()).update(part.saved)
    return found
