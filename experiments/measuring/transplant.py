"""Transplant: give a noise-free network the variance shift of its noisy twin, and nothing else of it.

Twins share seed, learning rate and weight decay, and with them initial weights and batches; one was trained with
noise. The noise-free one keeps its weights and its stored means. Shallow to deep, each BN layer's stored variance
is set to

    Var of its input in eval mode, behind the layers changed already / the noisy twin's shift ratio,

unbiased and per channel, so that the layer then shows the very `shift_ratio` that layers.csv has for the twin. Its
test error is what the shift costs by itself, with none of what else noise does to training.

The ratio is the layer's, one number for all its channels. A ratio for each channel would be no more faithful: once
trained differently, channel 7 of one twin is not channel 7 of the other, and a channel that is nearly constant in
either would get a ratio without meaning. It makes little difference: with dropout 0.7 before_bn and three seeds,
digits at width 16 get 25 % error (standard error 5) against 24 % (4) with a ratio for each channel, Fashion-MNIST
at depth 5 and width 64 gets 58 % (12) against 61 % (10).
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from experiments.data import Data
from experiments.measuring.evaluate import evaluate
from experiments.measuring.moments import Moments
from experiments.members import Member, member_of
from experiments.networks import build_network
from experiments.networks.network import Network
from experiments.settings.config import Job
from experiments.training.augment import measured_data
from experiments.training.stack import stack_members

State = dict[str, Tensor]
Twins = dict[Member, State]

COLUMN = "test_error_transplanted"
# Input variances are taken over one batch: all training samples, or as many as have a widest layer of this size.
WIDEST_LAYER_BYTES = 256e6


def noise_free(member: Member) -> Member:
    """Return the twin without noise."""
    return Member("none", "none", 0.0, member.seed, member.lr, member.weight_decay)


def missing_twins(members: Sequence[Member], of_job: Sequence[Member]) -> list[Member]:
    """Return the noise-free twins that `of_job` has, and `members`, a part of it to be trained, need and lack."""
    needed = dict.fromkeys(map(noise_free, members))
    there, trained = set(of_job), set(members)
    return [twin for twin in needed if twin in there and twin not in trained]


def keep_twins(twins: Twins, stack: Network, members: Sequence[Member]) -> None:
    """Add to `twins` the weights and statistics of the noise-free members of a trained stack, as stacks of one."""
    for index, member in enumerate(members):
        if member == noise_free(member):
            twins[member] = {
                name: value[index : index + 1].detach().clone() for name, value in stack.state_dict().items()
            }


@torch.no_grad()
def set_shift(stack: Network, ratios: Mapping[str, float], inputs: Tensor) -> None:
    """Set the stored variances of a stack of one so that each BN layer shows its of the `ratios` on `inputs`.

    One pass in eval mode over inputs [N, *sample shape] suffices: each layer is set right before it is first run,
    which is also the right order in networks with branches.
    """

    def set_variance(ratio: float) -> Callable:
        def before(norm, arguments: tuple[Tensor]) -> None:
            moments = Moments()
            moments.update(arguments[0])
            norm.running_var.copy_(moments.variance / ratio)

        return before

    hooks = [
        stack.get_submodule(name).register_forward_pre_hook(set_variance(ratio))
        for name, ratio in ratios.items()
    ]
    try:
        stack.eval()(inputs.unsqueeze(0))
    finally:
        for hook in hooks:
            hook.remove()


def ratios_to_transplant(rows: Mapping[str, Sequence[dict[str, Any]]]) -> dict[Member, dict[str, float]]:
    """Return the shift ratio of each layer, by its name, of noisy members whose error is still to be measured.

    Left out are members that have it, and those of which a layer has no shift ratio: diverged or failed members,
    and all where no statistics are stored.
    """
    lacking = {member_of(row) for row in rows["members.csv"] if COLUMN not in row}
    ratios: dict[Member, dict[str, float]] = {}
    for row in rows["layers.csv"]:
        if (member := member_of(row)) in lacking and member != noise_free(member):
            ratios.setdefault(member, {})[str(row["layer_name"])] = row.get("shift_ratio", math.nan)
    return {
        member: by_layer
        for member, by_layer in ratios.items()
        if all(0 < ratio < math.inf for ratio in by_layer.values())
    }


def add_transplanted_errors(
    job: Job,
    data: Data,
    twins: Twins,
    rows: Mapping[str, Sequence[dict[str, Any]]],
    shapes: Mapping[str, Sequence[int]],
) -> None:
    """Add `test_error_transplanted`, in percent, to the rows of members.csv whose noise-free twin is in `twins`.

    `rows` are a job's, `shapes` those of one sample at each noise site. It is added to the members of
    `ratios_to_transplant`.
    """
    ratios = ratios_to_transplant(rows)
    # Of the samples over which the ratios were measured, evenly: a folder's first images may all be of one class.
    measured = measured_data(data, job.recipe).train_inputs
    count = min(len(measured), batch_samples(shapes))
    inputs = measured[torch.arange(count) * len(measured) // count]
    loaded, stack = None, None
    for row in rows["members.csv"]:
        member, twin = member_of(row), noise_free(member_of(row))
        if member not in ratios or twin not in twins:
            continue
        start = time.perf_counter()
        if stack is None or loaded != twin:
            loaded, stack = twin, _load(job, data, twin, twins[twin])
        set_shift(stack, ratios[member], inputs)
        row[COLUMN] = evaluate(stack, 1, data.test_inputs, data.test_labels).error.item()
        for seconds in ("seconds", "seconds_measuring"):
            row[seconds] += time.perf_counter() - start


def batch_samples(shapes: Mapping[str, Sequence[int]]) -> int:
    """Return how many samples the variances are taken over, for a network with activations of these shapes."""
    widest = max(torch.Size(shape).numel() for shape in shapes.values())
    return max(2, int(WIDEST_LAYER_BYTES // (4 * widest)))


def _load(job: Job, data: Data, twin: Member, state: State) -> Network:
    def build(seed: int) -> Network:
        return build_network(job.model, data.sample_shape, data.classes, seed)

    stack = stack_members([twin], build)
    stack.load_state_dict(state)
    return stack.to(data.train_inputs.device)
