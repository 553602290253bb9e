"""Stacks: one network whose parameters and statistics hold those of many members side by side."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import stack_module_state

from experiments.members import Member
from experiments.networks.network import Network, NoiseSite
from experiments.training.noise import SiteNoise


def stack_members(members: Sequence[Member], build: Callable[[int], Network]) -> Network:
    """Return one network whose parameters and buffers carry a leading members dimension.

    `build(seed)` returns a network with the initial weights of that seed; members of one seed start alike.
    """
    by_seed = {seed: build(seed) for seed in sorted({member.seed for member in members})}
    params, buffers = stack_module_state([by_seed[member.seed] for member in members])
    stack = deepcopy(next(iter(by_seed.values())))
    for name, value in {**params, **buffers}.items():
        module_name, _, leaf = name.rpartition(".")
        module = stack.get_submodule(module_name)
        if leaf in module._parameters:
            module._parameters[leaf] = nn.Parameter(value.detach())
        else:
            module._buffers[leaf] = value
    return stack


def member_state(stack: Network, index: int) -> dict[str, Tensor]:
    """Return the parameters and statistics of one member of a stack, as those of a network of its own."""
    return {name: value[index] for name, value in stack.state_dict().items()}


def unstack_member(stack: Network, index: int, plain: Network) -> Network:
    """Load member `index` of `stack` into `plain`, a network of the same architecture, and return it."""
    plain.load_state_dict(member_state(stack, index))
    return plain


def site_shapes(network: Network, sample: Tensor) -> dict[str, tuple[int, ...]]:
    """Return the shape of one sample at each noise site of a plain `network`, found by running it once.

    `sample` is a batch [batch, *sample shape]; the network is run in eval mode, which changes nothing in it.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def keep(name: str):
        return lambda _, args: shapes.__setitem__(name, tuple(args[0].shape[1:]))

    hooks = [site.register_forward_pre_hook(keep(name)) for name, site in network.sites().items()]
    was_training = network.training
    with torch.no_grad():
        network.eval()(sample)
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    return shapes


class ChunkNoise:
    """The noise of all members of a chunk at all sites; only sites where some member has noise do work."""

    def __init__(
        self,
        stack: Network,
        shapes: dict[str, tuple[int, ...]],
        members: Sequence[Member],
        device: torch.device,
    ):
        self.sites, self.shapes = stack.sites(), shapes
        noises = {
            name: SiteNoise(name, site.placement, shapes[name], members, device)
            for name, site in self.sites.items()
        }
        self.active = {name: noise for name, noise in noises.items() if noise.is_active}

    def on(self, step: int | str, batch: int) -> AbstractContextManager[None]:
        """Switch the noise of `step` on for a batch of that many samples, and off again at the end."""
        return self.acting(self.draw(step, batch))

    def draw(
        self, step: int | str, batch: int, into: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Return the draws of each active site at `step`, written over those of another step if they are given."""
        into = into or {}
        return {name: noise.draw(step, batch, into.get(name)) for name, noise in self.active.items()}

    @contextmanager
    def acting(self, draws: Mapping[str, Tensor]) -> Iterator[None]:
        """Switch on the noise that is made of these draws, and off again at the end."""
        for name, noise in self.active.items():
            self.sites[name].factor = noise.factor_of(draws[name])
        try:
            yield
        finally:
            for name in self.active:
                self.sites[name].factor = None

    @contextmanager
    def on_in_turn(self, step: int | str, batch: int) -> Iterator[None]:
        """Switch on the noise that `on` does, each site's only while the site runs: for batches of very many."""

        def draw(noise: SiteNoise):
            return lambda site, _: setattr(site, "factor", noise.factor(step, batch))

        def drop(site: NoiseSite, *_: object) -> None:
            site.factor = None

        hooks = []
        for name, noise in self.active.items():
            hooks.append(self.sites[name].register_forward_pre_hook(draw(noise)))
            hooks.append(self.sites[name].register_forward_hook(drop))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
