"""A part of a study: members of one setting that one process trained, on disk all or nothing; and what it says.

A part is made in a folder of its own below STUDY/.work, and moved to STUDY/jobs when it is whole. There it stays
as it is. Its record, done.json or failed.json, says which members it finished and which not, the data that they
were trained on, the version of the numbers, and the sha256 of each of its tables and files of weights, and of the
record itself.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from experiments.checks import ConfigError, one_line, regular_file, shown
from experiments.members import Member
from experiments.settings.config import RESULT_KEYS, Job, make_job
from experiments.study.environment import write_environment
from experiments.study.files import is_there, naming, write_text
from experiments.study.tables import TABLES, columns_of, read_table, write_table
from experiments.study.versions import NUMBERS_VERSION
from experiments.study.weights import (
    WEIGHTS,
    Recorded,
    are_as_recorded,
    saved_members,
    weights_file,
    weights_there,
)

CONFIG = "config.yaml"
# libyaml, where there is one, is ten times as fast as Python.
LOADER, DUMPER = (getattr(yaml, f"C{name}", getattr(yaml, name)) for name in ("SafeLoader", "SafeDumper"))
DONE, FAILED, ERRORS = "done.json", "failed.json", "errors.txt"
PARTS, WORK = "jobs", ".work"  # folders of a study
LISTS = ("finished", "unfinished")  # of members, in a record
NEW = "new"  # what of a part is written already, in its folder below WORK


@dataclass(frozen=True)
class Part:
    """What a part says of itself: its members that finished, diverged ones too, and those that did not."""

    folder: Path
    finished: list[Member]
    unfinished: list[Member]
    numbers: int
    weights: Recorded = field(default_factory=dict)

    @property
    def setting(self) -> str:
        """The name of its setting."""
        return self.folder.name.rpartition("-")[0]

    @property
    def saved(self) -> set[Member]:
        """The members that finished and whose weights it keeps."""
        return saved_members(self.weights, self.finished)


def part_folder(job: Job) -> Path:
    """Return where a part lies once it is whole."""
    return job.folder / PARTS / job.name


def work_folder(job: Job) -> Path:
    """Return where a part is made."""
    return job.folder / WORK / job.name


def new_folder(job: Job) -> Path:
    """Return the folder of what of a part is written already."""
    return work_folder(job) / NEW


def job_tables(job: Job) -> list[str]:
    """Return which of TABLES a job writes: flips.csv only when it is asked for."""
    return [name for name in TABLES if name != "flips.csv" or job.measure.flips]


def start_part(job: Job) -> None:
    """Begin to write a part: by which configuration and in which environment it is made."""
    new = _new(work_folder(job))
    write_text(new / CONFIG, yaml.dump(job.config, Dumper=DUMPER, sort_keys=False, allow_unicode=True))
    write_environment(new)


def finish_part(
    job: Job,
    rows: Mapping[str, Sequence[Mapping]],
    unfinished: Iterable[Member] = (),
    errors: Sequence[str] = (),
    fingerprint: str | None = None,
) -> None:
    """Write a part's `rows`, a list for each of `job_tables(job)`, and put it in its place.

    `unfinished` are the members to be trained again, because of `errors`, tracebacks. `fingerprint` is that of the
    data, None when they could not be read.
    """
    new = new_folder(job)
    for name in job_tables(job):
        write_table(new / name, TABLES[name], rows[name])
    if errors:
        write_text(new / ERRORS, "\n".join(errors))
    lost = set(unfinished)
    finished = [member for member in job.members if member not in lost]
    left = [member for member in job.members if member in lost]
    part = Part(part_folder(job), finished, left, NUMBERS_VERSION, weights_there(new))
    write_record(new, part, job.data.name, fingerprint)
    put_in_place(work_folder(job))


def rewrite_part(
    folder: Path, part: Part, change: Callable[[list[dict[str, str]]], list[dict[str, str]]]
) -> None:
    """Write what lies in `folder` anew as `part`, all or nothing; `change` returns the rows of each table."""
    work = part.folder.parents[1] / WORK / part.folder.name
    new = _new(work)
    for name in (CONFIG, "environment.json", ERRORS):
        if is_there(folder / name):
            shutil.copyfile(regular_file(folder / name), new / name)
    for name in (name for name in TABLES if is_there(folder / name)):
        write_table(new / name, columns_of(folder / name), change(read_table(folder / name)))
    for member in part.saved:
        (new / WEIGHTS).mkdir(exist_ok=True)
        shutil.copyfile(regular_file(weights_file(folder, member)), weights_file(new, member))
    write_record(new, replace(part, weights=weights_there(new)), *(recorded_data(folder) or (None, None)))
    put_in_place(work)
    remove_work_folder(work)


def write_record(folder: Path, part: Part, data: str | None, fingerprint: str | None) -> None:
    """Write the record of a part whose tables are all in `folder`."""
    record = {
        "job": part.folder.name,
        "numbers": part.numbers,
        "data": {"name": data, "fingerprint": fingerprint},
        **{key: [astuple(member) for member in getattr(part, key)] for key in LISTS},
        "tables": {name: checksum(folder / name) for name in TABLES if is_there(folder / name)},
        "weights": part.weights,
    }
    record["sha256"] = _checksum_of(record)
    write_text(folder / (FAILED if part.unfinished else DONE), json.dumps(record))


def put_in_place(work: Path) -> None:
    """Move a part from where it was made to its place, once it is whole; else do nothing.

    What lies there is in the way: nothing is trained again that the study holds, so that it is damaged, holds
    failures alone, lacks weights that this part has, or is what this part was rewritten from.
    """
    if not has_ended(work / NEW):
        return
    place = work.parents[1] / PARTS / work.name
    place.parent.mkdir(exist_ok=True)
    with suppress(FileNotFoundError):
        shutil.rmtree(place)
    (work / NEW).rename(place)


def remove_part(folder: Path) -> None:
    """Remove a part in one step: half of one would be a damaged one. Nobody else may be at work on the study."""
    work = folder.parents[1] / WORK
    work.mkdir(exist_ok=True)
    remove_work_folder(folder.rename(work / folder.name))


def remove_work_folder(work: Path) -> None:
    """Remove the folder where a part was made. Nobody else may be at work on the study."""
    shutil.rmtree(work)
    with suppress(OSError):  # there are others
        work.parent.rmdir()


def has_ended(folder: Path) -> bool:
    """Say whether the part in `folder` has its record, whatever else is there."""
    return _record_file(folder) is not None


def read_part(folder: Path) -> Part | None:
    """Return what the part in `folder` says of itself; None where it says nothing that this version reads."""
    try:
        record = _record(folder)
        finished, unfinished = ([Member(*values) for values in record[key]] for key in LISTS)
        for member in (*finished, *unfinished):
            _ = member.order  # a word that this version does not know has none
        return Part(folder, finished, unfinished, record["numbers"], record.get("weights", {}))
    except (ValueError, LookupError, TypeError):
        return None


def is_damaged(folder: Path) -> bool:
    """Say whether the tables of the part in `folder` are not what it once wrote, or are those of another part.

    Raises OSError for what is there and cannot be read: that is no damage.
    """
    if not has_ended(folder):
        return False
    try:
        record = _record(folder)
        # Of a version that recorded checksums alone.
        job, checksums = record.get("job", folder.name), record.get("tables", record)
        return (
            job != folder.name
            or not checksums
            or any(checksums[name] != checksum(folder / name) for name in checksums)
            or not are_as_recorded(folder, record.get("weights", {}))
        )
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
        return True


def recorded_data(folder: Path) -> tuple[str, str] | None:
    """Return the name and the fingerprint of the data that the part in `folder` was trained on.

    None where it does not say so: in a study of an earlier version, in a damaged record.
    """
    try:
        data = _record(folder)["data"]
        return (data["name"], data["fingerprint"]) if data["fingerprint"] is not None else None
    except (ValueError, LookupError, TypeError):
        return None


def read_config(folder: Path) -> dict[str, Any]:
    """Return what the config.yaml of a part holds. Raises ConfigError for what no job has written."""
    try:
        config: Any = yaml.load(regular_file(folder / CONFIG).read_bytes(), LOADER)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise _of_another_version(folder, f"{type(error).__name__}: {shown(one_line(error))}") from error
    for key in RESULT_KEYS:
        if not isinstance(config, Mapping) or not isinstance(config.get(key), Mapping):
            raise _of_another_version(folder, f"no section {key}")
    return dict(config)


def read_job(folder: Path) -> Job:
    """Return the job that its config.yaml makes of a part; the part may hold fewer members.

    Raises ConfigError for one of another version.
    """
    config = read_config(folder)
    config.pop("kind", None)  # of studies from before the mode study had a command of its own
    try:
        return make_job(config)
    except ConfigError as error:
        raise _of_another_version(folder, str(error)) from error


def checksum(path: Path) -> str:
    """Return the sha256 of a file."""
    with naming(path), regular_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _new(work: Path) -> Path:
    """Return an empty folder for a part that is begun."""
    with suppress(FileNotFoundError):
        shutil.rmtree(work / NEW)
    (work / NEW).mkdir(parents=True)
    return work / NEW


def _checksum_of(record: Mapping[str, Any]) -> str:
    """Return the sha256 of what a record holds."""
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()


def _record_file(folder: Path) -> Path | None:
    return next((folder / name for name in (DONE, FAILED) if is_there(folder / name)), None)


def _record(folder: Path) -> Any:
    """Return what the record of a part holds.

    Raises LookupError where there is none, and ValueError for one that is not as it was written.
    """
    if (file := _record_file(folder)) is None:
        raise LookupError(f"{folder} holds no record")
    record = json.loads(regular_file(file).read_text())
    # Earlier versions wrote no checksum of the record itself.
    if "sha256" in record and record.pop("sha256") != _checksum_of(record):
        raise ValueError(f"{file} is not as it was written")
    return record


def _of_another_version(folder: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"study={folder.parents[1].name}: {folder / CONFIG} is none of this version's ({reason}); "
        f"choose another study=NAME, or remove {folder}, whose members are then trained again"
    )
