"""Multiplicative noise as data: sites in a network, uniform draws, and the factors made of them.

A factor m has E[m] = 1 and is switched off at test. All families (`analysis.theory.noises`) are made of the same
uniform draw u in [0, 1), so that members of one seed are paired.
"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from analysis.theory.noises import NO_NOISE, family
from experiments.members import Member
from experiments.seeds import generator

# The numbers of a factor that a thread fills before it takes others.
PIECE = 4096


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

    A product with activations then reads both in order. Vectors lie as [count, features, batch] and on a CPU
    images as [count, height, width, channels, batch], see `networks.layout`; on other devices images lie as
    [count, batch, height, width, channels].
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

    def factor(self, step: int | str, batch: int) -> Tensor:
        """Return m of every member at `step`, [members, batch, *sample_shape]; 1 where a member has no noise."""
        keys = [(seed, "noise", step, self.site) for seed in self.seeds]
        count = (1 + len(self.inverse_cdfs)) * len(keys)
        draws = empty_activations(count, batch, self.sample_shape, self.device)
        uniform, *others = draws.split(len(keys))
        fill_uniform(uniform, keys)
        for draw, inverse_cdf in zip(others, self.inverse_cdfs, strict=True):
            draw.copy_(inverse_cdf(uniform))
        make = factors_by_kernel if self.device.type == "cpu" else factors_by_torch
        return make(draws, self.which, self.parameters)


def factors_by_torch(draws: Tensor, which: Tensor, parameters: Tensor) -> Tensor:
    """Return each member's factor, of the draw [batch, *sample_shape] that is its own, by its four numbers."""
    draw = draws[which]
    offset, slope, threshold, step = parameters.view(-1, 4, *[1] * (draw.dim() - 1)).unbind(1)
    return torch.addcmul(offset, draw, slope) + torch.where(draw >= threshold, step, 0)


def factors_by_kernel(draws: Tensor, which: Tensor, parameters: Tensor) -> Tensor:
    """Return the same, read and written once; draws on a CPU, as `empty_activations` lays them out."""
    from experiments.kernels.machine import NUMBERS, compiled, largest_vector, over_threads
    from experiments.kernels.noise import fill_factors  # which imports LLVM

    factors = empty_activations(len(which), draws.shape[1], draws.shape[2:], draws.device)
    size = factors[0].numel()
    pieces = -(-size // PIECE)
    kernel = compiled(fill_factors, factors.dtype, largest_vector(size, factors.dtype))
    arguments = draws, which, parameters, factors, size, pieces, PIECE
    over_threads(len(factors) * pieces, functools.partial(kernel, *arguments), PIECE / NUMBERS)
    return factors
