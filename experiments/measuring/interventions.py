"""Interventions: what a network errs when its BN layers show a prescribed shift, and nothing else of it changes.

*Frozen* statistics are re-estimated with noise on and weights frozen, in batches of training's size. Behind them
each layer shows r and d (see `shown`), channel by channel: the shift itself, free of stale moving averages.

    repair         a network with its own weights shows    R = r, D = d   the frozen network again
                                                           R = r, D = 0   means right
                                                           R = 1, D = d   variances right
                                                           R = 1, D = 0   both right, as BN adjustment does

    coarse         a network shows what is left of another's shift when channels do not correspond, as those of a
                   noisy network and of its noise-free twin do not: one ratio r a layer, and of the mean shift its
                   root mean square over channels, the size
                       variances    R = r, D = 0
                       shift        R = r, D = size u
                       means        R = 1, D = size u
                       random       R = 1, D = size times a random direction; mean of several draws
                   u is the direction in which `variances` moves the layer's means, of root mean square 1. Where it
                   moves them by less than 0.01, as in the first layer, u is a random direction.

The coarse ones act on the noise-free twin (`transplant`), and on the noisy network itself. What they cost there
beyond the twin is interaction with the weights; what r and d cost beyond them is the channels' own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from experiments.measuring.evaluate import judge, judge_logits
from experiments.measuring.moments import Moments
from experiments.measuring.shown import (
    Prescription,
    Shown,
    parts,
    prescribe,
    rms,
    shown,
    storing_norms,
)
from experiments.networks.network import Network
from experiments.seeds import generator

CELLS = ("frozen", "means_right", "variances_right", "both_right")
COARSE = ("variances", "shift", "means", "random")
RANDOM_DRAWS = 3
SMALLEST_INDUCED = 0.01

LabelledInputs = tuple[Tensor, Tensor]


@dataclass
class LayerShift:
    """The coarse shift of a BN layer: its ratio r and the size of its mean shift, each [members]."""

    ratio: Tensor
    size: Tensor


@dataclass
class Found:
    """What interventions found, each [members]: columns of members.csv, and by BN name those of layers.csv.

    `cut` counts the channels whose stored variance would have had to be below 0, see `prescribe`.
    """

    members: dict[str, Tensor] = field(default_factory=dict)
    layers: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    cut: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.long))


@torch.no_grad()
def freeze(stack: Network, moments: Mapping[str, Moments], rows: slice) -> None:
    """Store, as each BN layer's statistics, those rows of mean and unbiased variance [members, channels]."""
    for name, norm in storing_norms(stack).items():
        norm.running_mean.copy_(moments[name].mean[rows])  # type: ignore[operator, union-attr]
        norm.running_var.copy_(moments[name].variance[rows])  # type: ignore[operator, union-attr]


@torch.no_grad()
def repair(stack: Network, inputs: Tensor, judged: Mapping[str, LabelledInputs]) -> Found:
    """Show the four cells in a stack with frozen statistics, which ends with both right.

    Moments are taken over inputs [N, *sample shape]. `judged` are the inputs and labels by the name ("test") that
    error and loss go by. Columns of a layer are those of `coarse_shift`.
    """
    real = shown(stack, inputs)
    found = Found()
    for name, shift in coarse_shift(stack, real).items():
        found.layers[name] = {"shift_ratio_frozen": shift.ratio, "mean_shift_frozen": shift.size}
    prescriptions: dict[str, Prescription] = {
        "means_right": lambda name, mean, variance: (real[name][0], torch.zeros_like(mean)),
        "variances_right": lambda name, mean, variance: (torch.ones_like(mean), real[name][1]),
        "both_right": lambda name, mean, variance: (torch.ones_like(mean), torch.zeros_like(mean)),
    }
    for cell in CELLS:
        logits = None
        if cell in prescriptions:
            cut, logits = prescribe(stack, inputs, prescriptions[cell])
            found.cut = found.cut + cut
        for what, (x, labels) in judged.items():
            if logits is not None and x is inputs:
                error, loss = judge_logits(logits, labels)
            else:
                error, loss = judge(stack, member_count(stack), x, labels)
            found.members |= {f"{what}_error_{cell}": error, f"{what}_loss_{cell}": loss}
    return found


def coarse_shift(stack: Network, real: Shown) -> dict[str, LayerShift]:
    """Return the coarse shift of each BN layer of a stack that shows `real` behind its stored statistics.

    ratio = sum over channels (v_i + eps) / sum over channels (running_var_i + eps)
    size  = rms over channels of D_i
    """
    shifts, norms = {}, storing_norms(stack)
    for name, (ratio, shift) in real.items():
        stored = norms[name].running_var.double() + norms[name].eps  # type: ignore[operator, union-attr]
        shifts[name] = LayerShift((ratio * stored).sum(1) / stored.sum(1), rms(shift))
    return shifts


@torch.no_grad()
def coarse(
    stack: Network,
    inputs: Tensor,
    shifts: Mapping[str, LayerShift],
    seeds: Sequence[int],
    test: LabelledInputs,
) -> Found:
    """Show the coarse `shifts` in a stack whose stored statistics are right on inputs [N, *sample shape].

    `seeds` [members] are what random directions are drawn by. The column of a layer is `mean_shift_induced`, the
    rms over channels by which `variances` moves its means, in right standard deviations.
    """
    norms = storing_norms(stack)
    right: dict[str, tuple[Tensor, Tensor]] = {
        name: (norm.running_mean.double(), (norm.running_var.double() + norm.eps).sqrt())  # type: ignore
        for name, norm in norms.items()
    }
    found, along, draw = Found(), {}, 0

    def random(name: str, like: Tensor) -> Tensor:
        return torch.stack([_direction(seed, name, draw, like.shape[1]) for seed in seeds]).to(like)

    def ratio(name: str, like: Tensor) -> Tensor:
        return shifts[name].ratio.to(like)[:, None].expand_as(like)

    def size(name: str, like: Tensor) -> Tensor:
        return shifts[name].size.to(like)[:, None]

    def variances(name: str, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        moved = (mean - right[name][0]) / right[name][1]
        induced = rms(moved)
        found.layers[name] = {"mean_shift_induced": induced}
        is_large = (induced >= SMALLEST_INDUCED)[:, None]
        along[name] = torch.where(is_large, moved / induced[:, None], random(name, mean))
        return ratio(name, mean), torch.zeros_like(mean)

    prescriptions: list[tuple[str, Prescription]] = [
        ("variances", variances),
        ("shift", lambda name, mean, _: (ratio(name, mean), size(name, mean) * along[name])),
        ("means", lambda name, mean, _: (torch.ones_like(mean), size(name, mean) * along[name])),
        *[("random", lambda name, mean, _: (torch.ones_like(mean), size(name, mean) * random(name, mean)))]
        * RANDOM_DRAWS,
    ]
    errors: dict[str, list[Tensor]] = {}
    for key, prescription in prescriptions:
        draw += key == "random"  # `along` has draw 0
        found.cut = found.cut + prescribe(stack, inputs, prescription)[0]
        errors.setdefault(key, []).append(judge(stack, len(seeds), *test)[0])
    found.members = {key: torch.stack(values).mean(0) for key, values in errors.items()}
    return found


def intervene(
    stack: Network,
    seeds: Sequence[int],
    moments: Mapping[str, Moments],
    inputs: Tensor,
    shapes: Mapping[str, Sequence[int]],
    judged: Mapping[str, LabelledInputs],
) -> Found:
    """Repair a stack and show it its own coarse shift; return all columns of its members and layers.

    `moments` are those of each BN layer's input in train mode, `inputs` those over which moments in eval mode are
    taken, `shapes` those of one sample at each noise site; `judged` must have "test". The stack's statistics end
    right.
    """
    pieces = []
    for rows, part in parts(stack, len(seeds), len(inputs), shapes):
        freeze(part, moments, rows)
        own = repair(part, inputs, judged)
        for name, norm in storing_norms(stack).items():
            norm.running_mean[rows] = part.get_submodule(name).running_mean  # type: ignore[index, operator]
            norm.running_var[rows] = part.get_submodule(name).running_var  # type: ignore[index, operator]
        shifts = {
            name: LayerShift(columns["shift_ratio_frozen"], columns["mean_shift_frozen"])
            for name, columns in own.layers.items()
        }
        rough = coarse(part, inputs, shifts, seeds[rows], judged["test"])
        members = own.members | {f"test_error_coarse_{key}": error for key, error in rough.members.items()}
        members["cut_channels"] = own.cut + rough.cut
        layers = {name: columns | rough.layers[name] for name, columns in own.layers.items()}
        pieces.append((members, layers))
    return Found(
        {key: torch.cat([members[key] for members, _ in pieces]) for key in pieces[0][0]},
        {
            name: {key: torch.cat([layers[name][key] for _, layers in pieces]) for key in columns}
            for name, columns in pieces[0][1].items()
        },
    )


def member_count(stack: Network) -> int:
    """Return how many members a stack with BN has."""
    return len(next(iter(storing_norms(stack).values())).running_var)  # type: ignore[arg-type]


def _direction(seed: int, name: str, draw: int, channels: int) -> Tensor:
    """Return a random direction [channels] of root mean square 1."""
    direction = torch.randn(channels, generator=generator(seed, "direction", name, draw), dtype=torch.double)
    return direction / direction.square().mean().sqrt()
