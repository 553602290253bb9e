"""A small study that faults are done to, and what became of it beside an undisturbed run."""

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from experiments.study.tables import read_table
from scripts.faults.command import Command, fork_command

TABLES = ("members.csv", "layers.csv", "epochs.csv")
SWEEP = [
    "+sweep=variance_shift", "study=variance_shift", "data=gaussian", "data.train_size=256",
    "data.test_size=64", "data.features=8", "model.width=4,8", "job.shards=2", "recipe.epochs=8",
    "recipe.batch_size=32", "members.seed=[0,1]", "members.dropout.rate=[0.5]",
    "members.uout=null", "members.gaussian=null", "processes=1",
]  # fmt: skip
Tables = dict[str, list[dict[str, str]]]


@dataclass
class Outcome:
    """What became of one kind of fault."""

    tried: int = 0
    survived: int = 0
    rows_lost: int = 0
    repeated: int = 0  # finished jobs that ran again although nothing was wrong with them
    skipped: str = ""  # why nothing was tried
    notes: list[str] = field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        """Add what became of other faults of the same kind."""
        self.tried += other.tried
        self.survived += other.survived
        self.rows_lost += other.rows_lost
        self.repeated += other.repeated
        self.notes += other.notes

    def note(self, what: str, err: str) -> None:
        """Note what was not as it should be, with the last line of what the command said on stderr."""
        self.notes.append(f"{what}: {err.strip().splitlines()[-1:]}")


class Left(NamedTuple):
    """What a command leaves: the merged tables as text, less the columns of time, and the names of all files.

    How many parts a study has depends on what disturbed it: of the files in them all that there may be are named.
    """

    tables: Tables
    files: set[str]


class Study:
    """A study in a folder of its own, the command that makes it, and what that leaves when it is undisturbed."""

    def __init__(self, folder: Path, undisturbed: Left, command: Sequence[str] = SWEEP):
        self.folder, self.undisturbed, self.command, self.started = folder, undisturbed, command, 0
        self.path = folder / "outputs" / "variance_shift"
        folder.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """Remove what was run so far."""
        shutil.rmtree(self.path, ignore_errors=True)

    def start(self, *arguments: str, prepare: Callable[[], object] = lambda: None) -> Command:
        """Start the command, after `prepare` was called in its process."""
        self.started += 1
        log = self.folder.with_name(f"{self.folder.name}-stderr-{self.started}.txt")
        return fork_command(self.folder, log, [*self.command, *arguments], prepare)

    def run(self, *arguments: str, prepare: Callable[[], object] = lambda: None) -> tuple[int, str]:
        """Run the command to its end; return its status and what it said on stderr."""
        return self.start(*arguments, prepare=prepare).end(600)

    @property
    def parts(self) -> list[Path]:
        """The folders of its parts."""
        return sorted((self.path / "jobs").glob("*"))

    @property
    def begun(self) -> int:
        """How many parts were begun so far, those that are whole included."""
        return len(self.parts) + len(list(self.path.glob(".work/*/new/config.yaml")))

    def done(self) -> dict[str, int]:
        """When each whole part was written, in nanoseconds."""
        return {
            part.name: (part / "done.json").stat().st_mtime_ns
            for part in self.parts
            if (part / "done.json").exists()
        }

    def finished_members(self) -> set[str]:
        """The rows of members that are finished, with the seconds that they took."""
        return {
            line
            for table in self.path.glob("jobs/*/members.csv")
            for line in table.read_text().splitlines()
            if ",ok," in line
        }

    def checkpoints(self) -> list[Path]:
        """The checkpoints that there are."""
        return list(self.path.glob(".work/*/checkpoints/*.checkpoint"))

    def left(self) -> Left:
        """What is there now."""
        tables = {
            name: [
                {key: value for key, value in row.items() if not key.startswith("seconds")}
                for row in read_table(self.path / name)
            ]
            for name in TABLES
            if (self.path / name).exists()
        }
        return Left(tables, {self._kind(path) for path in self.folder.rglob("*")})

    def _kind(self, path: Path) -> str:
        """The name of a file or folder, alike for all of a kind that whole parts hold."""
        name = str(path.relative_to(self.folder))
        return re.sub(
            r"jobs/[^/.]+-[0-9a-f]{8}(/(failed|done)\.json|/errors\.txt)?(?=/|$)", "jobs/PART", name
        )

    def judge(self, outcome: Outcome, status: int, err: str) -> None:
        """Compare what is there with what an undisturbed run leaves, and count."""
        found, expected = self.left(), self.undisturbed
        for name, rows in expected.tables.items():
            outcome.rows_lost += sum(row not in found.tables.get(name, []) for row in rows)
        good = status == 0 and found == expected and "Traceback" not in err
        outcome.survived += good
        if not good:
            outcome.note(f"status {status}", err)
        outcome.notes += [f"left behind: {file}" for file in sorted(found.files - expected.files)]
        outcome.notes += [f"missing: {file}" for file in sorted(expected.files - found.files)]
