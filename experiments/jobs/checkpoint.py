"""Checkpoints: where the training of a chunk stands, on disk, so that a killed job goes on from there.

A file holds the members that were trained side by side, each as a row of every tensor. It is read member by
member: a job that cuts its members into other chunks, on a machine with more cores for instance, finds them too.

    one line of JSON: the sha256 of all that follows
    one line of JSON: setting, fingerprint of the data, number of training samples, members, finished epochs
    what torch.save makes of the state; read with weights_only
"""

import hashlib
import io
import json
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.checks import regular_file
from experiments.data import Data
from experiments.members import Member
from experiments.settings.config import Job
from experiments.study.files import all_or_nothing, listed, naming, remove_partials
from experiments.training.train import TrainingState

FOLDER = "checkpoints"  # in the job's own


@dataclass(frozen=True)
class Place:
    """Where a member's state lies: which row of which file, and after how many epochs."""

    file: Path
    row: int
    epoch: int


def save_checkpoint(
    folder: Path, job: Job, data: Data, members: Sequence[Member], state: TrainingState
) -> None:
    """Write the state of `members`, in place of an earlier one of the same members, all or nothing."""
    names = [list(astuple(member)) for member in members]
    content = io.BytesIO()
    header = _origin(job, data) | {"members": names, "epoch": state.epoch}
    content.write(json.dumps(header).encode() + b"\n")
    torch.save(vars(state), content)
    name = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]
    (folder / FOLDER).mkdir(exist_ok=True)
    with all_or_nothing(folder / FOLDER / f"{name}.checkpoint", "xb") as file:
        file.write(json.dumps(hashlib.sha256(content.getbuffer()).hexdigest()).encode() + b"\n")
        file.write(content.getbuffer())


def _origin(job: Job, data: Data) -> dict[str, Any]:
    """Return what a state must agree in with the job that goes on from it."""
    return {"setting": job.setting, "data": data.fingerprint, "samples": len(data.train_labels)}


def check_checkpoints(folder: Path, job: Job, data: Data) -> None:
    """Remove what cannot be used: files that are damaged, or of other settings or data; one line says so.

    Raises OSError for a file that cannot be read: that is no damage.
    """
    remove_partials(folder / FOLDER)
    for file in _files(folder):
        try:
            header = json.loads(_content(file).partition(b"\n")[0])
            if any(header[key] != value for key, value in _origin(job, data).items()):
                raise ValueError("it is of other settings or data")
        except (ValueError, LookupError, TypeError) as error:
            print(f"{file}: removed, its members start over: {error}", file=sys.stderr)
            file.unlink()


def find_checkpoints(folder: Path) -> dict[Member, Place]:
    """Return where the state of each member lies that has one; of several, that of the latest epoch.

    Only the files' headers are read.
    """
    places: dict[Member, Place] = {}
    for path in _files(folder):
        with path.open("rb") as file:
            file.readline()
            header = json.loads(file.readline())
        for row, values in enumerate(header["members"]):
            member = Member(*values)
            if member not in places or places[member].epoch < header["epoch"]:
                places[member] = Place(path, row, header["epoch"])
    return places


def split_by_epoch(chunks: Sequence[list[Member]], places: dict[Member, Place]) -> list[list[Member]]:
    """Cut each chunk into members that have finished equally many epochs, none of them included."""
    parts = []
    for chunk in chunks:
        epochs = [places[member].epoch if member in places else 0 for member in chunk]
        for epoch in sorted(set(epochs)):
            parts.append([member for member, own in zip(chunk, epochs, strict=True) if own == epoch])
    return parts


def load_state(members: Sequence[Member], places: dict[Member, Place]) -> TrainingState | None:
    """Put the state of `members`, all after equally many epochs, together; None when they have none."""
    if not all(member in places for member in members):
        return None
    mine = [places[member] for member in members]
    states = {file: _read_state(file) for file in {place.file for place in mine}}

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


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a job that is done."""
    with suppress(FileNotFoundError):
        shutil.rmtree(folder / FOLDER)


def _files(folder: Path) -> list[Path]:
    return [file for file in listed(folder / FOLDER) if file.suffix == ".checkpoint"]


def _content(file: Path) -> bytes:
    """Return what a file holds behind its checksum. Raises ValueError when it is not as it was written."""
    with naming(file):
        checksum, _, content = regular_file(file).read_bytes().partition(b"\n")
    if json.loads(checksum) != hashlib.sha256(content).hexdigest():
        raise ValueError("it is not as it was written")
    return content


def _read_state(file: Path) -> dict[str, Any]:
    state = _content(file).partition(b"\n")[2]
    return torch.load(io.BytesIO(state), weights_only=True, map_location="cpu")
