"""Passes over a data set with the weights frozen, in train mode and in eval mode."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.data import Data
from experiments.measuring.moments import Moments
from experiments.members import Member
from experiments.networks.network import Network
from experiments.training.gradients import member_losses
from experiments.training.stack import ChunkNoise
from experiments.training.train import stacked_batches

EVALUATION_BATCH = 256  # in eval mode the batch changes nothing but the memory


@dataclass
class Evaluation:
    """What a pass found, per member: error in percent, mean cross entropy in nats, moments of each BN's input."""

    error: Tensor  # [members], double
    loss: Tensor  # [members], double
    norm_moments: dict[str, Moments]


@contextmanager
def capture_inputs(stack: Network, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that after every forward pass holds the input of each module of these names."""
    captured: dict[str, Tensor] = {}

    def keep(name: str):
        return lambda _, args: captured.__setitem__(name, stack.with_members(args[0]))

    hooks = [stack.get_submodule(name).register_forward_pre_hook(keep(name)) for name in names]
    try:
        yield captured
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def frozen_statistics(stack: Network) -> Iterator[None]:
    """Give every buffer (BN's running statistics) its old value back at the end."""
    saved = {name: buffer.clone() for name, buffer in stack.named_buffers()}
    try:
        yield
    finally:
        for name, buffer in stack.named_buffers():
            buffer.copy_(saved[name])


def train_mode_pass(
    stack: Network,
    members: Sequence[Member],
    noise: ChunkNoise,
    data: Data,
    batch: int,
    order: int | str,
    draw: str,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each batch's logits [members, batch, classes] and labels [members, batch] of one epoch in train mode.

    Noise is on, also while the caller looks at a batch, and every BN normalises by its batch. Stored statistics
    end as they began. `order` names the order of the samples, as an epoch of training has one; `draw` names the
    draws of the noise.
    """
    stack.train()
    with frozen_statistics(stack):
        for index, (inputs, labels) in enumerate(stacked_batches(data, members, order, batch)):
            with noise.on(f"{draw} {index}", batch):
                yield stack(inputs), labels


def wrong_answers(logits: Tensor, labels: Tensor) -> Tensor:
    """Return how many samples of a batch each member gets wrong, [members]."""
    return (logits.argmax(-1) != labels).sum(1)


@torch.no_grad()
def judge(stack: Network, members: int, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Run a stack in eval mode over inputs [N, *sample shape] with labels [N], every noise off.

    Return the error in percent and the mean cross entropy in nats, each [members] in double precision.
    """
    stack.eval()
    return _judged((stack(x.expand(members, *x.shape)) for x in inputs.split(EVALUATION_BATCH)), labels)


def judge_logits(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `judge` does, of logits [members, N, classes] that are there already."""
    return _judged(logits.split(EVALUATION_BATCH, 1), labels)


def _judged(batches: Iterable[Tensor], labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return errors and losses of the logits of each `EVALUATION_BATCH` of the labels."""
    wrong: Tensor = torch.zeros((), dtype=torch.double, device=labels.device)
    loss = wrong
    for logits, y in zip(batches, labels.split(EVALUATION_BATCH), strict=True):
        wrong = wrong + wrong_answers(logits, y)
        loss = loss + member_losses(logits, y.expand(len(logits), -1)).double() * len(y)
    return 100 * wrong / len(labels), loss / len(labels)


def evaluate(stack: Network, members: int, inputs: Tensor, labels: Tensor) -> Evaluation:
    """Judge a stack, and take the moments of what every normalisation layer reads meanwhile."""
    moments = {norm_input.norm: Moments() for norm_input in stack.norm_inputs()}

    def update(moment: Moments) -> Callable:
        return lambda _, arguments: moment.update(stack.with_members(arguments[0]))

    hooks = [
        stack.get_submodule(name).register_forward_pre_hook(update(moment))
        for name, moment in moments.items()
    ]
    try:
        return Evaluation(*judge(stack, members, inputs, labels), moments)
    finally:
        for hook in hooks:
            hook.remove()
