"""A chunk's outcome as rows of the tables, each with the columns that say which member it is of."""

from dataclasses import asdict

from torch import Tensor

from experiments.members import Member
from experiments.settings.config import Job
from experiments.training.train import Outcome

Row = dict[str, object]


def identity(job: Job, member: Member) -> Row:
    """Return the columns that say which member a row is of."""
    model = job.model
    return {
        "data": job.data.name,
        "model": model.name,
        "width": model.width,
        "depth": model.depth,
        "norm": model.norm,
        "noise_variance": member.noise_variance,
        "batch_size": job.recipe.batch_size,
        "job": job.setting_name,
        **asdict(member),
    }


def member_rows(
    job: Job, members: list[Member], outcome: Outcome, errors: dict[str, Tensor], seconds: dict[str, float]
) -> list[Row]:
    """Return a row of members.csv for each member; a diverged one has its status and no errors."""
    rows: list[Row] = []
    for index, member in enumerate(members):
        row = identity(job, member) | {"status": "ok", "steps": outcome.steps[index], **seconds}
        if outcome.diverged[index]:
            row |= {"status": "diverged", "reason": "the training loss left the finite numbers"}
        else:
            row |= {name: value[index].item() for name, value in errors.items()}
        rows.append(row)
    return rows


def layer_rows(job: Job, members: list[Member], outcome: Outcome, layers: list[dict]) -> list[Row]:
    """Return a row of layers.csv for each member and BN layer; a diverged member's hold no measurements."""
    rows: list[Row] = []
    for index, member in enumerate(members):
        for columns in layers:
            row = identity(job, member)
            for key, value in columns.items():
                measured = isinstance(value, Tensor)
                if not (measured and outcome.diverged[index]):
                    row[key] = value[index].item() if measured else value  # type: ignore[index]
            rows.append(row)
    return rows


def epoch_rows(job: Job, members: list[Member], outcome: Outcome) -> list[Row]:
    """Return a row of epochs.csv for each member and epoch."""
    rows: list[Row] = []
    for index, member in enumerate(members):
        of_member = identity(job, member)
        for record in outcome.epochs:
            values = {k: v[index] if isinstance(v, list) else v for k, v in record.items()}
            rows.append(of_member | values)
    return rows


def flip_rows(job: Job, members: list[Member], outcome: Outcome, flips: list[list[Row]]) -> list[Row]:
    """Return the rows of flips.csv: those of each member that did not diverge."""
    return [
        identity(job, member) | row
        for member, diverged, rows in zip(members, outcome.diverged, flips, strict=True)
        if not diverged
        for row in rows
    ]


def failed_rows(job: Job, members: list[Member], reason: str) -> list[Row]:
    """Return the rows of members.csv of a chunk that raised an error."""
    return [identity(job, member) | {"status": "failed", "reason": reason} for member in members]
