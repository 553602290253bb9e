"""Which noise is a layer's own, found without asking the network.

Every normalisation layer is replaced by a recording of what it returned, so that a change at a site reaches
another layer only where no normalisation layer is in between.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from experiments.networks.network import Network
from experiments.seeds import generator
from tests.experiments.networks.small_networks import (
    recorded_inputs,
)


@contextmanager
def replayed_norms(network: Network, outputs: dict[str, Tensor]) -> Iterator[None]:
    """Let every normalisation layer return its recorded output, whatever it reads."""
    hooks = [
        network.get_submodule(name).register_forward_hook(lambda _, args, __, output=output: output)
        for name, output in outputs.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def norm_names(network: Network) -> list[str]:
    return [
        name
        for name, module in network.named_modules()
        if "norm" in name.rpartition(".")[2] or isinstance(module, nn.BatchNorm2d)
    ]


def norms_read(network: Network, x: Tensor) -> dict[str, Tensor]:
    with recorded_inputs(network) as inputs, torch.no_grad():
        network(x)
    return {name: inputs[name].clone() for name in norm_names(network)}


def own_channels(network: Network, x: Tensor) -> dict[str, dict[str, Tensor]]:
    """For every norm, the sites whose noise is its own: {norm: {site: channels that hear it, and directly}}.

    A channel hears a site directly if a change there reaches it in the same size whether or not the other
    norms pass it on.
    """
    network.eval()
    outputs: dict[str, Tensor] = {}
    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: outputs.__setitem__(name, output.detach())
        )
        for name in norm_names(network)
    ]
    clean = norms_read(network, x)
    for hook in hooks:
        hook.remove()
    found: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for index, (site_name, site) in enumerate(network.sites().items()):
        site.factor = torch.rand((), generator=generator(index)).double() + 1.5
        through_all = norms_read(network, x)
        with replayed_norms(network, outputs):
            directly = norms_read(network, x)
        site.factor = None
        for name, before in clean.items():
            change, whole_change = directly[name] - before, through_all[name] - before
            over = [dimension for dimension in range(change.dim()) if dimension != 1]
            reached = change.abs().amax(over) > 1e-9
            only = (change - whole_change).abs().amax(over) < 1e-12
            if (reached & only).any():
                found[name][site_name] = (reached & only).nonzero()[:, 0]
    return found
