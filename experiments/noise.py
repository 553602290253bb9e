"""Multiplicative noise as data: sites in a network, uniform draws, and the factors made of them.

A factor m has E[m] = 1 and is switched off at test. All families are made of the same uniform draw u in
[0, 1), so that members of one seed are paired:

    dropout    m = (u >= rate) / (1 - rate)     Var(m) = rate / (1 - rate)     `rate` is the DROP rate
    uout       m = 1 + beta (2 u - 1)           Var(m) = beta^2 / 3            the paper's Eq 15
    gaussian   m = 1 + std Phi^-1(u)            Var(m) = std^2
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn

from experiments.members import Member
from experiments.seeds import generator


class NoiseSite(nn.Module):
    """A place in a network where the noise of one placement can act.

    `factor` is what the site multiplies its input by; None, as at first, makes it the identity.
    """

    def __init__(self, placement: str):
        super().__init__()
        self.placement = placement
        self.factor: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return m * x, shaped as x."""
        return x if self.factor is None else x * self.factor


def empty_activations(count: int, batch: int, sample_shape: Sequence[int], device: torch.device) -> Tensor:
    """Return an unset tensor [count, batch, *sample_shape], laid out in memory as activations are.

    A product with activations then reads both in order. Vectors lie as [count, features, batch], see
    `networks.stacked`; images as [count, height, width, channels, batch] on a CPU, see `networks.stacked_images`,
    and on other devices as [count, batch, height, width, channels].
    """
    if len(sample_shape) == 1:
        return torch.empty((count, *sample_shape, batch), device=device).mT
    channels, *space = sample_shape
    if device.type == "cpu":
        return torch.empty(count, *space, channels, batch).permute(0, 4, 3, 1, 2)
    return torch.empty((count, batch, *space, channels), device=device).movedim(-1, 2)


def uniform_draws(
    keys: Sequence[tuple], batch: int, sample_shape: Sequence[int], device: torch.device
) -> Tensor:
    """Return u ~ U[0, 1), [keys, batch, *sample_shape]: a function of each key and the shape alone."""
    uniform = empty_activations(len(keys), batch, sample_shape, device)
    for draw, key in zip(uniform, keys, strict=True):
        draw.uniform_(generator=generator(*key, device=device))
    return uniform


def standard_normal(uniform: Tensor) -> Tensor:
    """Return Phi^-1(u) = sqrt(2) erfinv(2 u - 1), finite also where u = 0."""
    smallest = -1 + 2.0**-24
    return torch.erfinv((2 * uniform - 1).clamp_(min=smallest)).mul_(math.sqrt(2))


@dataclass(frozen=True)
class Run:
    """Neighbouring members of a chunk, [start, stop), that apply one noise family at a site.

    The factor is scale * (u >= rate) for dropout, else offset + scale * (u, or Phi^-1(u)).
    """

    start: int
    stop: int
    noise: str
    rate: Tensor  # [members of the run, 1, ...], and so are scale and offset
    scale: Tensor
    offset: Tensor
    seed_index: Tensor | slice  # which of the chunk's seeds each member has


class SiteNoise:
    """The noise of a chunk of members at one site, step after step."""

    def __init__(
        self,
        site: str,
        placement: str,
        sample_shape: Sequence[int],
        members: Sequence[Member],
        device: torch.device,
    ):
        self.site, self.sample_shape, self.device = site, tuple(sample_shape), device
        self.count = len(members)
        self.seeds = sorted({member.seed for member in members})
        active = [m.noise if m.placement == placement and m.strength > 0 else "none" for m in members]
        self.runs: list[Run] = []
        for noise, group in groupby(range(len(members)), key=lambda index: active[index]):
            indices = list(group)
            if noise != "none":
                self.runs.append(self._run(noise, indices, members))
        self.noise_variance = torch.tensor(
            [
                member.noise_variance if noise != "none" else 0.0
                for member, noise in zip(members, active, strict=True)
            ],
            device=device,
        )  # [members]

    def _run(self, noise: str, indices: list[int], members: Sequence[Member]) -> Run:
        ones = (1,) * (len(self.sample_shape) + 1)
        strength = torch.tensor([members[index].strength for index in indices], device=self.device)
        seed_index: Tensor | slice = torch.tensor(
            [self.seeds.index(members[index].seed) for index in indices], device=self.device
        )
        if len(self.seeds) == 1:
            seed_index = slice(0, 1)  # broadcast instead of copied
        strength = strength.view(-1, *ones)
        scale, offset = {
            "dropout": (1 / (1 - strength), torch.zeros_like(strength)),
            "uout": (2 * strength, 1 - strength),
            "gaussian": (strength, torch.ones_like(strength)),
        }[noise]
        return Run(indices[0], indices[-1] + 1, noise, strength, scale, offset, seed_index)

    @property
    def is_active(self) -> bool:
        """Whether any member of the chunk has noise at this site."""
        return bool(self.runs)

    def factor(self, step: int | str, batch: int) -> Tensor:
        """Return m of every member at `step`, [members, batch, *sample_shape]; 1 where a member has no noise."""
        keys = [(seed, "noise", step, self.site) for seed in self.seeds]
        uniform = uniform_draws(keys, batch, self.sample_shape, self.device)  # [seeds, batch, *sample_shape]
        normal = standard_normal(uniform) if any(run.noise == "gaussian" for run in self.runs) else uniform
        factor = empty_activations(self.count, batch, self.sample_shape, self.device)
        covered = 0
        for run in self.runs:
            factor[covered : run.start] = 1
            covered = run.stop
            target = factor[run.start : run.stop]
            if run.noise == "dropout":
                torch.ge(uniform[run.seed_index], run.rate, out=target).mul_(run.scale)
            else:
                source = normal if run.noise == "gaussian" else uniform
                torch.addcmul(run.offset, source[run.seed_index], run.scale, out=target)
        factor[covered:] = 1
        return factor
