"""Transplant: give a noise-free network the coarse shift of its noisy twin, and nothing else of it.

Twins share seed, learning rate and weight decay, and with them initial weights and batches; one was trained with
noise. The noise-free one keeps its weights and shows what `interventions.coarse` prescribes: each layer's ratio
and size of mean shift are those that the noisy one shows behind its frozen statistics. Its error, less its own
with both right, is what that shift costs a network that never met noise.
"""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from experiments.data import Data
from experiments.measuring.interventions import COARSE, LayerShift, coarse
from experiments.measuring.shown import parts, samples_at_once, select
from experiments.members import Member, member_of
from experiments.networks import build_network
from experiments.networks.network import Network
from experiments.settings.config import Job
from experiments.training.augment import measured_data
from experiments.training.stack import stack_members

State = dict[str, Tensor]
Twins = dict[Member, State]
Shifts = dict[str, tuple[float, float]]  # by BN name: ratio and size

COLUMNS = {key: f"test_error_twin_{key}" for key in COARSE}


def noise_free(member: Member) -> Member:
    """Return the twin without noise."""
    return Member("none", "none", 0.0, member.seed, member.lr, member.weight_decay)


def missing_twins(job: Job) -> list[Member]:
    """Return the noise-free twins that the members of a job need and that are not among them.

    None where nothing is transplanted: without `measure.interventions`, or where no statistics are stored.
    """
    if not job.measure.interventions or job.model.norm != "batch":
        return []
    trained = set(job.members)
    return [twin for twin in dict.fromkeys(map(noise_free, job.members)) if twin not in trained]


def keep_twins(twins: Twins, stack: Network, members: Sequence[Member]) -> None:
    """Add to `twins` the weights and statistics of the noise-free members of a trained stack, as stacks of one."""
    for index, member in enumerate(members):
        if member == noise_free(member):
            twins[member] = {
                name: value[index : index + 1].detach().clone() for name, value in stack.state_dict().items()
            }


def shifts_to_transplant(rows: Mapping[str, Sequence[dict[str, Any]]]) -> dict[Member, Shifts]:
    """Return the coarse shift of each layer, by its name, of noisy members that have not been transplanted.

    Left out are members of which a layer shows none: diverged or failed ones, all where no statistics are stored,
    and all without `measure.interventions`.
    """
    lacking = {member_of(row) for row in rows["members.csv"] if COLUMNS["shift"] not in row}
    shifts: dict[Member, Shifts] = {}
    for row in rows["layers.csv"]:
        if (member := member_of(row)) in lacking and member != noise_free(member):
            shift = row.get("shift_ratio_frozen", math.nan), row.get("mean_shift_frozen", math.nan)
            shifts.setdefault(member, {})[str(row["layer_name"])] = shift
    return {
        member: by_layer
        for member, by_layer in shifts.items()
        if all(0 < ratio < math.inf and math.isfinite(size) for ratio, size in by_layer.values())
    }


def add_transplanted_errors(
    job: Job,
    data: Data,
    twins: Twins,
    rows: Mapping[str, Sequence[dict[str, Any]]],
    shapes: Mapping[str, Sequence[int]],
) -> None:
    """Add the errors of noise-free twins with the shift of `shifts_to_transplant` to the rows of those members.

    `test_error_twin_...`, in percent, go to members.csv where the twin is in `twins`, `mean_shift_induced_twin` to
    layers.csv. `rows` are a job's, `shapes` those of one sample at each noise site.
    """
    shifts = shifts_to_transplant(rows)
    members = {member_of(row): row for row in rows["members.csv"]}
    layers = {(member_of(row), str(row["layer_name"])): row for row in rows["layers.csv"]}
    measured = measured_data(data, job.recipe)
    inputs = samples_at_once(measured.train_inputs, shapes)
    noisy_of: dict[Member, list[Member]] = {}
    for member in shifts:
        noisy_of.setdefault(noise_free(member), []).append(member)
    for twin, noisy in noisy_of.items():
        if twin not in twins:
            continue
        copies = select(_load(job, data, twin, twins[twin]), torch.zeros(len(noisy), dtype=torch.long))
        for part, stack in parts(copies, len(noisy), len(inputs), shapes):
            start = time.perf_counter()
            some = noisy[part]
            by_layer = {
                name: LayerShift(*(torch.tensor([shifts[m][name][i] for m in some]) for i in (0, 1)))
                for name in shifts[some[0]]
            }
            seeds, test = [member.seed for member in some], (measured.test_inputs, measured.test_labels)
            found = coarse(stack, inputs, by_layer, seeds, test)
            seconds = (time.perf_counter() - start) / len(some)
            for index, member in enumerate(some):
                for key, column in COLUMNS.items():
                    members[member][column] = found.members[key][index].item()
                for column in ("seconds", "seconds_measuring"):
                    members[member][column] += seconds
                for name, columns in found.layers.items():
                    induced = columns["mean_shift_induced"][index].item()
                    layers[member, name]["mean_shift_induced_twin"] = induced


def _load(job: Job, data: Data, twin: Member, state: State) -> Network:
    def build(seed: int) -> Network:
        return build_network(job.model, data.sample_shape, data.classes, seed)

    stack = stack_members([twin], build)
    stack.load_state_dict(state)
    return stack.to(data.train_inputs.device)
