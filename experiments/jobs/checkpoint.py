"""Checkpoints: how far a chunk has come, on disk, so that a killed job goes on from there.

A file holds the members that were trained side by side: each as a row of every tensor while they are in training,
then, once they are measured too, their rows of the tables (experiments/jobs/measured.py). It is read member by
member, whichever command of the study wrote it: one that cuts its members into other chunks or shards, or trains
them among others, finds them too.

    one line of JSON: the sha256 of all that follows
    one line of JSON: setting, version of the numbers, data, number of training samples, members, finished epochs,
        whether they are measured
    what torch.save makes of the state, or of what was measured; read with weights_only
"""

import hashlib
import io
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import torch

from experiments.checks import regular_file
from experiments.data import Data
from experiments.members import Member
from experiments.settings.config import Job
from experiments.study.files import all_or_nothing, listed, naming, remove_partials
from experiments.study.inventory import Inventory
from experiments.study.locks import is_free
from experiments.study.part import WORK, work_folder
from experiments.study.versions import NUMBERS_VERSION
from experiments.training.train import TrainingState

FOLDER = "checkpoints"  # in that where a part is made


@dataclass(frozen=True)
class Place:
    """Where a member's state lies: which row of which file, and after how many epochs; or what was measured."""

    file: Path
    row: int
    epoch: int
    measured: bool = False


def save_checkpoint(job: Job, data: Data, members: Sequence[Member], state: TrainingState) -> None:
    """Write the state of `members`, in place of an earlier one of the same members, all or nothing."""
    write_checkpoint(job, data, members, state.epoch, vars(state), measured=False)


def write_checkpoint(
    job: Job, data: Data, members: Sequence[Member], epoch: int, state: Mapping[str, Any], measured: bool
) -> None:
    """Write what torch.load reads with weights_only as the checkpoint of `members`."""
    names = [list(astuple(member)) for member in members]
    content = io.BytesIO()
    wanted = set(job.members)
    asked_for = [member in wanted for member in members]  # other than noise-free twins that only serve them
    header = {"members": names, "asked_for": asked_for, "epoch": epoch, "measured": measured}
    content.write(json.dumps(_origin(job, data) | header).encode() + b"\n")
    torch.save(dict(state), content)
    name = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]
    folder = work_folder(job) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with all_or_nothing(folder / f"{name}.checkpoint", "xb") as file:
        file.write(json.dumps(hashlib.sha256(content.getbuffer()).hexdigest()).encode() + b"\n")
        file.write(content.getbuffer())


def _origin(job: Job, data: Data) -> dict[str, Any]:
    """Return what a state must agree in with the job that goes on from it."""
    return {
        "setting": job.setting,
        "numbers": NUMBERS_VERSION,
        "data": data.fingerprint,
        "samples": len(data.train_labels),
    }


def find_checkpoints(job: Job, data: Data) -> dict[Member, Place]:
    """Return where each member of the job's setting stands that has a checkpoint; of several, the latest.

    Files that are damaged, or of other settings or data, are not used. Those where this job's own part is made are
    removed, and a line says so. Raises OSError for a file that cannot be read: that is no damage.
    """
    own = work_folder(job)
    remove_partials(own / FOLDER)
    places: dict[Member, Place] = {}
    for work in listed(own.parent):
        for path in _files(work) if work.name.startswith(job.setting_name) else []:
            try:
                header = json.loads(_content(path).partition(b"\n")[0])
                if any(header[key] != value for key, value in _origin(job, data).items()):
                    raise ValueError("it is of other settings or data")
                found = [Member(*values) for values in header["members"]]
            except (ValueError, LookupError, TypeError, FileNotFoundError) as error:
                if work == own:
                    print(f"{path}: removed, its members start over: {error}", file=sys.stderr)
                    path.unlink()
                continue
            for row, member in enumerate(found):
                # Those of a version that kept no measured members do not say.
                place = Place(path, row, header["epoch"], header.get("measured", False))
                if member not in places or _stage(places[member]) < _stage(place):
                    places[member] = place
    return places


def _stage(place: Place) -> tuple[bool, int]:
    return place.measured, place.epoch


def split_by_epoch(chunks: Sequence[list[Member]], places: Mapping[Member, Place]) -> list[list[Member]]:
    """Cut each chunk into members that have finished equally many epochs, none of them included."""
    parts = []
    for chunk in chunks:
        epochs = [places[member].epoch if member in places else 0 for member in chunk]
        for epoch in sorted(set(epochs)):
            parts.append([member for member, own in zip(chunk, epochs, strict=True) if own == epoch])
    return parts


def load_state(members: Sequence[Member], places: Mapping[Member, Place]) -> TrainingState | None:
    """Put the state of `members`, all after equally many epochs, together; None when they have none.

    Nor have they one where another process, which saved it, has gone on since.
    """
    if not all(member in places for member in members):
        return None
    mine = [places[member] for member in members]
    try:
        states = {file: read_checkpoint(file) for file in {place.file for place in mine}}
    except FileNotFoundError:
        return None
    if any(states[place.file].get("epoch") != place.epoch for place in mine):
        return None

    def rows(*path: Any) -> list[Any]:
        found = []
        for place in mine:
            value: Any = states[place.file]
            for key in path:
                value = value[key]
            found.append(value[place.row])
        return found

    first = states[mine[0].file]
    return TrainingState(
        epoch=first["epoch"],
        weights={name: torch.stack(rows("weights", name)) for name in first["weights"]},
        momentum=[torch.stack(rows("momentum", index)) for index in range(len(first["momentum"]))],
        finite_epochs=torch.stack(rows("finite_epochs")),
        still_finite=torch.stack(rows("still_finite")),
        records=[
            {
                key: rows("records", index, key) if isinstance(value, list) else value
                for key, value in record.items()
            }
            for index, record in enumerate(first["records"])
        ],
    )


def remove_checkpoints(job: Job) -> None:
    """Remove the checkpoints of a part that is whole."""
    with suppress(FileNotFoundError):
        shutil.rmtree(work_folder(job) / FOLDER)


def remove_work(inventory: Inventory) -> None:
    """Remove, of the parts that are begun, those of which nobody wants anything any more.

    That is what nobody is at work on, and where no checkpoint is of a member that the study lacks.
    """
    for work in listed(inventory.study / WORK):
        there = inventory.finished.get(work.name.rpartition("-")[0], set())
        if is_free(work) and _asked_for(work) <= there:
            shutil.rmtree(work)
    with suppress(OSError):  # there is none, or something left in it
        (inventory.study / WORK).rmdir()


def _asked_for(work: Path) -> set[Member]:
    """Return the members that a part which is begun is to hold, as far as it has checkpoints of them."""
    found: set[Member] = set()
    for path in _files(work):
        with suppress(ValueError, LookupError, TypeError):
            header = json.loads(_content(path).partition(b"\n")[0])
            found |= {Member(*values) for values in compress(header["members"], header["asked_for"])}
    return found


def _files(folder: Path) -> list[Path]:
    return [file for file in listed(folder / FOLDER) if file.suffix == ".checkpoint"]


def _content(file: Path) -> bytes:
    """Return what a file holds behind its checksum. Raises ValueError when it is not as it was written."""
    with naming(file):
        checksum, _, content = regular_file(file).read_bytes().partition(b"\n")
    if json.loads(checksum) != hashlib.sha256(content).hexdigest():
        raise ValueError("it is not as it was written")
    return content


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Return the state that `write_checkpoint` wrote. Raises FileNotFoundError when its part is whole by now."""
    state = _content(file).partition(b"\n")[2]
    return torch.load(io.BytesIO(state), weights_only=True, map_location="cpu")
