"""Trained members of a study as ordinary networks, and their audit: nothing is trained again.

    python -m experiments.run study=kept members.save=true
    python -m scripts.member outputs/kept placement=before_bn strength=0.5 seed=0

audits one member; in Python

    from scripts.member import load_member
    network, train, test = load_member("outputs/kept", placement="before_bn", strength=0.5, seed=0)

The study must have been trained with members.save=true.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from analysis.audit import MultiplicativeNoise
from analysis.audit.printed import print_audit
from analysis.command import check_paths
from analysis.schema import MEMBER_KEY
from analysis.theory.noises import DROPOUT
from experiments.checks import ConfigError
from experiments.command import exit_status
from experiments.data import Data, ImageFiles
from experiments.jobs.chunk import build_stack
from experiments.jobs.job_data import cached_data
from experiments.members import Member, member_of
from experiments.networks import build_network
from experiments.networks.network import Network
from experiments.settings.config import Job
from experiments.study.admission import check_same_data
from experiments.study.part import Part, read_job
from experiments.study.selection import select_rows
from experiments.study.weights import read_weights
from experiments.training.augment import measured_data
from experiments.training.stack import ChunkNoise


@dataclass(frozen=True)
class Batches:
    """Inputs [batch, *sample shape] and labels [batch] of a data set, in its order, as often as they are read."""

    inputs: Tensor | ImageFiles
    labels: Tensor
    size: int

    def __len__(self) -> int:
        """Return how many batches there are; the last may be smaller."""
        return -(-len(self.labels) // self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each batch."""
        for start in range(0, len(self.labels), self.size):
            which = slice(start, start + self.size)
            yield self.inputs[which], self.labels[which]


class LoadedMember(NamedTuple):
    """A trained network, noisy in train mode alone, and the samples that it was measured on, on the CPU."""

    network: nn.Module
    train: Batches
    test: Batches


class LoadedStack(NamedTuple):
    """Trained members side by side, as `experiments.measuring` takes them, and the data they were measured on."""

    job: Job
    members: list[Member]
    stack: Network
    noise: ChunkNoise
    data: Data


def load_member(study: str | Path, **columns: object) -> LoadedMember:
    """Return the one member of a study that has these values in these columns, in eval mode.

    Its noise is torch's `Dropout`, or `MultiplicativeNoise`, drawn by torch's own generator. Its training samples
    are those that BN was measured on, augmented if the recipe augments.

    Raises:
        ConfigError: none or several members have these values; the weights were not saved, or are not as they
            were written; the data are not those that the member was trained on.
    """
    part, member = _one(Path(study), _selection(columns))
    job = read_job(part.folder)
    data = _data(Path(study), job)
    network = build_network(job.model, data.sample_shape, data.classes, member.seed)
    network.load_state_dict(read_weights(part.folder, member, part.weights))
    _put_noise_in_place(network, member)
    size = job.recipe.batch_size
    return LoadedMember(
        network.eval(),
        Batches(data.train_inputs, data.train_labels, size),
        Batches(data.test_inputs, data.test_labels, size),
    )


def load_stack(study: str | Path, **columns: object) -> LoadedStack:
    """Return all members of a study that have these values in these columns, side by side and in their order.

    What the harness measures of trained members, interventions, transplants and the closure, can be measured anew.
    Raises ConfigError as `load_member` does, and where the members are of several settings.
    """
    study, selection = Path(study), _selection(columns)
    found = {
        member_of(row): part for part, row in select_rows(study, selection) if member_of(row) in part.saved
    }
    settings = sorted({part.setting for part in found.values()})
    if len(settings) != 1:
        several = f"members of several settings ({', '.join(settings)})" if settings else _WITHOUT_WEIGHTS
        raise ConfigError(f"{' '.join(selection)}: {study} holds {several}")
    members = sorted(found, key=lambda member: member.order)
    job = replace(read_job(found[members[0]].folder), members=members)
    data = _data(study, job)
    stack, noise = build_stack(job, members, data)
    states = [read_weights(found[m].folder, m, found[m].weights) for m in members]
    stack.load_state_dict({name: torch.stack([state[name] for state in states]) for name in states[0]})
    return LoadedStack(job, members, stack, noise, data)


_WITHOUT_WEIGHTS = (
    "no weights of such members; the study's command with members.save=true trains them again and keeps them"
)


def _selection(columns: Mapping[str, object]) -> list[str]:
    return [f"{column}={value}" for column, value in columns.items()]


def _data(study: Path, job: Job) -> Data:
    """Return the data of a job as its members were measured on them. Raises ConfigError for other data."""
    data = cached_data(job.data)
    check_same_data(study, {data.name: data.fingerprint})
    return measured_data(data, job.recipe)


def _one(study: Path, selection: list[str]) -> tuple[Part, Member]:
    """Return the one member whose columns are as `selection` says, and a part that keeps its weights."""
    found, named = select_rows(study, selection), " ".join(selection)
    for column in MEMBER_KEY:
        if len(different := sorted({row[column] for _, row in found})) > 1:  # of one kind
            several = ", ".join(map(str, different))
            raise ConfigError(f"{named}: {study} holds several such members; say which {column}: {several}")
    for part, row in found:
        if (member := member_of(row)) in part.saved:
            return part, member
    raise ConfigError(f"{named}: {study} holds {_WITHOUT_WEIGHTS}")


def _put_noise_in_place(network: Network, member: Member) -> None:
    """Put an ordinary module into each site where the noise of a member acts."""
    for name, site in network.sites().items():
        if site.placement == member.placement:
            parent, _, leaf = name.rpartition(".")
            noise: nn.Module = nn.Dropout(member.strength)
            if member.noise != DROPOUT.name:
                noise = MultiplicativeNoise(member.noise, member.noise_variance)
            setattr(network.get_submodule(parent), leaf, noise)


def main(arguments: list[str] | None = None) -> int:
    """Audit a member; return the exit status."""
    return exit_status(lambda: audit_member(arguments), "member")


def audit_member(arguments: list[str] | None) -> int:
    """Audit the member that the arguments name; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.member", description="Audit a trained member of a study."
    )
    parser.add_argument("study", type=Path, help="the study's folder, trained with members.save=true")
    parser.add_argument("selection", nargs="+", metavar="COLUMN=VALUE", help=", ".join(MEMBER_KEY))
    parser.add_argument(
        "--out", type=Path, default=Path("outputs/audit"), help="where the page goes (%(default)s)"
    )
    options = parser.parse_args(arguments)
    check_paths(options.out)
    named = dict(argument.partition("=")[::2] for argument in options.selection)
    network, train, test = load_member(options.study, **named)
    torch.manual_seed(0)
    print_audit(network, " ".join([str(options.study), *options.selection]), train, test, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
