"""Losses and gradients of a stack, step after step."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.kernels.machine import has_kernels
from experiments.kernels.tape import Tape
from experiments.networks.network import Network
from experiments.training.precision import products_in
from experiments.training.stack import ChunkNoise


def member_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return each member's mean cross entropy [members] of logits [members, batch, classes]."""
    return F.cross_entropy(logits.mT, labels, reduction="none").mean(1)


class Gradients:
    """Computes the losses and gradients of each step of a stack: of networks of vectors by a tape of the first."""

    def __init__(self, stack: Network, noise: ChunkNoise, precision: str):
        self.stack, self.noise, self.precision = stack, noise, precision
        self.params = list(stack.parameters())
        self.tape: Tape | None = None

    def __call__(self, step: int, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Return losses [members] and the gradient of each parameter, in train mode with the noise of `step`.

        Inputs [members, batch, *sample shape], labels [members, batch], of one shape in all steps. The next step
        may write over what is returned.
        """
        # Images are work enough beside calling it, and a tape would keep all that a step computes.
        if self.stack.needs_images or self.stack.is_foreign or not has_kernels(inputs):
            return self._compute(inputs, labels, self.noise.draw(step, labels.shape[1]))
        if self.tape is None:
            # Copies: what members share is one tensor expanded, which cannot be written to.
            self.inputs, self.labels = (
                x.clone(memory_format=torch.contiguous_format) for x in (inputs, labels)
            )
            self.draws = self.noise.draw(step, labels.shape[1])
            self.tape = Tape(len(labels))
            with self.tape.recording():
                self.losses, self.grads = self._compute(self.inputs, self.labels, self.draws)
        else:
            self.inputs.copy_(inputs)
            self.labels.copy_(labels)
            self.noise.draw(step, labels.shape[1], self.draws)
            self.tape.play()
        return self.losses, self.grads

    def _compute(
        self, inputs: Tensor, labels: Tensor, draws: Mapping[str, Tensor]
    ) -> tuple[Tensor, Sequence[Tensor]]:
        with self.noise.acting(draws), products_in(self.precision, inputs.device):
            logits = self.stack(inputs)
        losses = member_losses(logits, labels)
        # A sum, so that each member's gradient is that of its own loss alone.
        return losses.detach(), torch.autograd.grad(losses.sum(), self.params)
