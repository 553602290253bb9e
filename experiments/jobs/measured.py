"""What is measured of a job that has not ended: the rows of its finished chunks, kept so that no kill costs them.

They take the place of the chunk's checkpoint, in its format, and go with it when the part is whole:

    columns   of each table, in this version
    tables    by name, the rows of all members of the chunk
    twins     by row, the state of each noise-free member that others need for the transplant
    weights   by row, the state of each member that was asked for with members.save=true
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from experiments.checks import one_line
from experiments.data import Data
from experiments.jobs.checkpoint import Place, read_checkpoint, write_checkpoint
from experiments.measuring.transplant import Twins
from experiments.members import Member, member_of
from experiments.settings.config import Job
from experiments.study.part import new_folder
from experiments.study.rows import Row
from experiments.study.tables import TABLES
from experiments.study.weights import save_weights, written_weights


def keep_measured(
    job: Job, data: Data, members: Sequence[Member], tables: Mapping[str, Sequence[Row]], twins: Twins
) -> None:
    """Write what came out of a chunk. If it cannot be written, a line says so: only a kill makes that a loss."""
    wanted = set(job.members) if job.saves else set()
    try:
        weights = {m: written_weights(new_folder(job), m) for m in members if m in wanted}
        state = {
            "columns": _columns(),
            "tables": {name: list(rows) for name, rows in tables.items()},
            "twins": _by_row(members, twins),
            "weights": _by_row(members, weights),
        }
        write_checkpoint(job, data, members, job.recipe.epochs, state, measured=True)
    except OSError as error:
        print(
            f"{job.name}: {len(members)} measured members are not on disk: {one_line(error)}", file=sys.stderr
        )


def take_measured(
    job: Job, members: Iterable[Member], places: Mapping[Member, Place], twins: Twins
) -> dict[str, list[Row]]:
    """Return the rows of each table of those of `members` that are measured, as `places` says.

    Their weights become the part's, where the job saves any; `twins` receives the noise-free ones. Not taken are
    members without the weights that are wanted, and those of a file of other columns or that is gone since.
    """
    rows: dict[str, list[Row]] = {}
    by_file: dict[Path, list[Member]] = {}
    wanted = set(job.members) if job.saves else set()
    for member in members:
        if (place := places.get(member)) and place.measured:
            by_file.setdefault(place.file, []).append(member)
    for file, of_file in by_file.items():
        with suppress(FileNotFoundError):
            state = read_checkpoint(file)
            if state["columns"] != _columns():
                continue
            weights = {m: state["weights"].get(places[m].row) for m in of_file if m in wanted}
            taken = {member for member in of_file if weights.get(member, {}) is not None}
            for member in taken & weights.keys():
                save_weights(new_folder(job), member, weights[member])
            twins.update({m: twin for m in taken if (twin := state["twins"].get(places[m].row))})
            for name, of_table in state["tables"].items():
                rows.setdefault(name, []).extend(row for row in of_table if member_of(row) in taken)
    return rows


def _columns() -> dict[str, list[str]]:
    return {name: list(columns) for name, columns in TABLES.items()}


def _by_row(members: Sequence[Member], states: Mapping[Member, Mapping[str, Tensor]]) -> dict[int, dict]:
    return {row: dict(states[member]) for row, member in enumerate(members) if member in states}
