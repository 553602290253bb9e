"""Multiplicative noise as data: uniform draws, and the factors made of them at each site of a network.

A factor m has E[m] = 1 and is switched off at test. All families (`analysis.theory.noises`) are made of the same
uniform draw u in [0, 1), so that members of one seed are paired.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from analysis.theory.noises import NO_NOISE, family
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


class SiteNoise:
    """The noise of a chunk of members at one site, step after step.

    Whatever its family, a factor is made of a draw d, which is u or the family's own function of u, by the
    member's four numbers: m = offset + slope d + step [d >= threshold].
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
        self.is_active = any(active)  # whether any member of the chunk has noise at this site
        noises = [(family(member.noise), member.strength) for member in members]
        noises = [noise if on else (NO_NOISE, 0.0) for noise, on in zip(noises, active, strict=True)]
        # A draw for each seed: the uniform ones, then for each further law its function of them.
        self.inverse_cdfs = list(dict.fromkeys(f for noise, _ in noises if (f := noise.inverse_cdf)))
        laws = [None, *self.inverse_cdfs]
        which = [
            self.seeds.index(member.seed) + laws.index(noise.inverse_cdf) * len(self.seeds)
            for member, (noise, _) in zip(members, noises, strict=True)
        ]
        self.which = torch.tensor(which, device=device)  # [members], of the draws
        parameters = [noise.factor_numbers(strength) for noise, strength in noises]
        self.parameters = torch.tensor(parameters, device=device)  # [members, 4]
        variances = [noise.noise_variance(strength) for noise, strength in noises]
        self.noise_variance = torch.tensor(variances, device=device)  # [members]

    def draw(self, step: int | str, batch: int, into: Tensor | None = None) -> Tensor:
        """Return the draws d of `step`, [draws, batch, *sample_shape], `into` those of another if given."""
        keys = [(seed, "noise", step, self.site) for seed in self.seeds]
        count = (1 + len(self.inverse_cdfs)) * len(keys)
        draws = empty_activations(count, batch, self.sample_shape, self.device) if into is None else into
        uniform, *others = draws.split(len(keys))
        fill_uniform(uniform, keys)
        for draw, inverse_cdf in zip(others, self.inverse_cdfs, strict=True):
            draw.copy_(inverse_cdf(uniform))
        return draws

    def factor(self, step: int | str, batch: int) -> Tensor:
        """Return m of every member at `step`, [members, batch, *sample_shape]; 1 where a member has no noise."""
        return self.factor_of(self.draw(step, batch))

    def factor_of(self, draws: Tensor) -> Tensor:
        """Return m of every member, made of these draws."""
        make = factors_by_kernel if has_kernels(draws) else factors_by_torch
        return make(draws, self.which, self.parameters)


def factors_by_torch(draws: Tensor, which: Tensor, parameters: Tensor) -> Tensor:
    """Return each member's factor, of the draw [batch, *sample_shape] that is its own, by its four numbers."""
    draw = draws[which]
    offset, slope, threshold, step = parameters.view(-1, 4, *[1] * (draw.dim() - 1)).unbind(1)
    return torch.addcmul(offset, draw, slope) + torch.where(draw >= threshold, step, 0)
