"""Small versions of every image network, and what tests do with any of them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from experiments.members import Member
from experiments.networks.network import Network
from tests.experiments.small import built

CPU = torch.device("cpu")
SITES = ("before_bn", "before_weight")

# Two blocks a stage, so that blocks with and without a shortcut that changes shape are there.
SMALL = {
    "convnet": {"name": "convnet", "width": 4, "depth": 2},
    "preresnet-basic": {"name": "preresnet", "width": 4, "depth": 2, "block": "basic"},
    "preresnet-bottleneck": {"name": "preresnet", "width": 4, "depth": 2, "block": "bottleneck"},
    "wide_resnet": {"name": "wide_resnet", "width": 8, "depth": 2},
    "resnext": {"name": "resnext", "width": 4, "depth": 2, "cardinality": 2},
    "densenet": {"name": "densenet", "width": 4, "depth": 2},
}
IMAGENET = {
    "name": "imagenet_net",
    "width": 4,
    "depth": 14,
    "cardinality": 2,
    "group_width": 4,
    "senet": True,
}
ALL = {"mlp": {"name": "mlp", "width": 12, "depth": 3}} | SMALL | {"imagenet_net": IMAGENET}


def small_network(key: str, seed: int, norm: str = "batch", size: int = 8) -> Network:
    """A network in double precision for images [3, size, size] of 10 classes, with norms as if trained.

    Freshly made, all their channels would have scale 1, shift 0 and equal statistics, which hides swapped ones.
    """
    network = built(ALL[key] | {"norm": norm}, (3, size, size), 10, seed).double()
    random = torch.Generator().manual_seed(100 + seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("running_var") or ("norm" in name and name.endswith("weight")):
                value.uniform_(0.5, 1.5, generator=random)
            elif name.endswith("running_mean") or ("norm" in name and name.endswith("bias")):
                value.normal_(0, 0.3, generator=random)
    return network


def images(batch: int, size: int = 8, seed: int = 0) -> Tensor:
    """Images [batch, 3, size, size] in double precision; means differ from zero, as those of real ones do."""
    random = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, size, size, generator=random, dtype=torch.double) + 0.5


def member(placement: str = "none", noise: str = "none", strength: float = 0.0, seed: int = 0) -> Member:
    return Member(placement, noise, strength, seed, lr=0.1, weight_decay=0.0)


@contextmanager
def recorded_inputs(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that holds what every module without parts, or BN, last read, in order of execution."""
    inputs: dict[str, Tensor] = {}

    def keep(name: str):
        return lambda _, args: inputs.__setitem__(name, args[0].detach())

    leaves = {
        name: module
        for name, module in network.named_modules()
        if not list(module.children()) or isinstance(module, nn.BatchNorm2d)  # which a site may be put into
    }
    hooks = [module.register_forward_pre_hook(keep(name)) for name, module in leaves.items()]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()
