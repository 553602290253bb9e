"""Multiplicative noise as data: uniform draws, and the factors made of them at each site of a network.

A factor m has E[m] = 1 and is switched off at test. All families are made of the same uniform draw u in
[0, 1), so that members of one seed are paired:

    dropout    m = (u >= rate) / (1 - rate)     Var(m) = rate / (1 - rate)     `rate` is the DROP rate
    uout       m = 1 + beta (2 u - 1)           Var(m) = beta^2 / 3            the paper's Eq 15
    gaussian   m = 1 + std Phi^-1(u)            Var(m) = std^2
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from experiments.kernels.factors import factors_by_kernel
from experiments.kernels.machine import has_kernels
from experiments.layers.layout import empty_activations
from experiments.members import Member
from experiments.seeds import generator


def uniform_draws(
    keys: Sequence[tuple], batch: int, sample_shape: Sequence[int], device: torch.device
) -> Tensor:
    """Return draws [keys, batch, *sample_shape] as `fill_uniform` makes them."""
    uniform = empty_activations(len(keys), batch, sample_shape, device)
    fill_uniform(uniform, keys)
    return uniform


def fill_uniform(uniform: Tensor, keys: Sequence[tuple]) -> None:
    """Fill uniform [keys, batch, *sample_shape] with u ~ U[0, 1), a function of each key and the shape alone."""
    for draw, key in zip(uniform, keys, strict=True):
        draw.uniform_(generator=generator(*key, device=uniform.device))


def standard_normal(uniform: Tensor) -> Tensor:
    """Return Phi^-1(u) = sqrt(2) erfinv(2 u - 1), finite also where u = 0."""
    smallest = -1 + 2.0**-24
    return torch.erfinv((2 * uniform - 1).clamp_(min=smallest)).mul_(math.sqrt(2))


class SiteNoise:
    """The noise of a chunk of members at one site, step after step.

    Whatever its family, a factor is made of a draw d, which is u or for `gaussian` Phi^-1(u), by the member's four
    numbers: m = offset + slope d + step [d >= threshold].
    """

    def __init__(
        self,
        site: str,
        placement: str,
        sample_shape: Sequence[int],
        members: Sequence[Member],
        device: torch.device,
    ):
        self.site, self.sample_shape, self.device = site, tuple(sample_shape), device
        self.seeds = sorted({member.seed for member in members})
        active = [member.placement == placement and member.strength > 0 for member in members]
        families = [member.noise if on else "none" for member, on in zip(members, active, strict=True)]
        self.is_active = any(active)  # whether any member of the chunk has noise at this site
        self.draws_normal = "gaussian" in families
        parameters, which = [], []
        for family, member in zip(families, members, strict=True):
            parameters.append(_parameters(family, member.strength))
            which.append(self.seeds.index(member.seed) + (family == "gaussian") * len(self.seeds))
        self.parameters = torch.tensor(parameters, device=device)  # [members, 4]
        self.which = torch.tensor(
            which, device=device
        )  # [members], of the draws: uniform ones, then normal ones
        variances = [member.noise_variance if on else 0.0 for member, on in zip(members, active, strict=True)]
        self.noise_variance = torch.tensor(variances, device=device)  # [members]

    def factor(self, step: int | str, batch: int) -> Tensor:
        """Return m of every member at `step`, [members, batch, *sample_shape]; 1 where a member has no noise."""
        keys = [(seed, "noise", step, self.site) for seed in self.seeds]
        kinds = 2 if self.draws_normal else 1
        draws = empty_activations(kinds * len(keys), batch, self.sample_shape, self.device)
        fill_uniform(uniform := draws[: len(keys)], keys)
        if self.draws_normal:
            draws[len(keys) :] = standard_normal(uniform)
        make = factors_by_kernel if has_kernels(draws) else factors_by_torch
        return make(draws, self.which, self.parameters)


def _parameters(family: str, strength: float) -> tuple[float, float, float, float]:
    """Return offset, slope, threshold and step of a family's factor."""
    if family == "dropout":
        return 0.0, 0.0, strength, 1 / (1 - strength)
    if family == "uout":
        return 1 - strength, 2 * strength, 0.0, 0.0
    return 1.0, strength if family == "gaussian" else 0.0, 0.0, 0.0


def factors_by_torch(draws: Tensor, which: Tensor, parameters: Tensor) -> Tensor:
    """Return each member's factor, of the draw [batch, *sample_shape] that is its own, by its four numbers."""
    draw = draws[which]
    offset, slope, threshold, step = parameters.view(-1, 4, *[1] * (draw.dim() - 1)).unbind(1)
    return torch.addcmul(offset, draw, slope) + torch.where(draw >= threshold, step, 0)
