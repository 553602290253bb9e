"""Passes over a data set with the weights frozen."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.measuring.moments import Moments
from experiments.networks.network import Network
from experiments.training.train import member_losses

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
        return lambda _, args: captured.__setitem__(name, args[0])

    hooks = [stack.get_submodule(name).register_forward_pre_hook(keep(name)) for name in names]
    try:
        yield captured
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def evaluate(stack: Network, members: int, inputs: Tensor, labels: Tensor) -> Evaluation:
    """Run a stack in eval mode over inputs [N, *sample shape] with labels [N], every noise off."""
    stack.eval()
    wrong = torch.zeros(members, dtype=torch.double, device=inputs.device)
    loss = torch.zeros_like(wrong)
    moments = {norm_input.norm: Moments() for norm_input in stack.norm_inputs()}
    with capture_inputs(stack, moments) as captured:
        for x, y in zip(inputs.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True):
            logits = stack(x.expand(members, *x.shape))  # [members, batch, classes]
            wrong += (logits.argmax(-1) != y).sum(1)
            loss += member_losses(logits, y.expand(members, -1)).double() * len(y)
            for name, moment in moments.items():
                moment.update(captured[name])
    return Evaluation(100 * wrong / len(labels), loss / len(labels), moments)
