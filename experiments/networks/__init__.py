"""The networks, by the name that the configuration gives them."""

from collections.abc import Mapping

import torch
from torch import nn

from experiments.checks import COUNT, ConfigError, Rule, check_section, one_of
from experiments.networks.mlp import MLP
from experiments.networks.network import Network
from experiments.seeds import generator

NETWORKS: dict[str, type[Network]] = {"mlp": MLP}
NORMS = ("batch",)
RULES: dict[str, Rule] = {"name": one_of(*NETWORKS), "width": COUNT, "depth": COUNT, "norm": one_of(*NORMS)}


def check_model_config(config: Mapping) -> dict:
    """Return the section `model` of the configuration as a dict, or raise ConfigError."""
    name = config.get("name") if isinstance(config, Mapping) else config
    if name not in NETWORKS:
        raise ConfigError("model.name", name, "one of " + ", ".join(NETWORKS))
    return check_section("model", config, RULES)


def build_network(config: Mapping, sample_shape: tuple[int, ...], classes: int, seed: int) -> Network:
    """Return the network of a checked `model` section with the initial weights of `seed`.

    Weight layers start from He's normal distribution (fan-in), the classifier and all biases from torch's
    usual uniform one, normalisation from scale 1 and shift 0.
    """
    with torch.random.fork_rng(devices=[]):  # torch's own initialisation draws numbers too; they are replaced
        network = NETWORKS[config["name"]](
            sample_shape, classes, width=config["width"], depth=config["depth"]
        )
    initialise(network, generator(seed, "weights"))
    return network


def initialise(network: Network, random: torch.Generator) -> None:
    """Draw all weights of `network` in the order of its modules from one generator."""
    feeds_norm = {norm_input.layer for norm_input in network.norm_inputs()}
    for name, module in network.named_modules():
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if weight is None or weight.dim() < 2:
            continue
        bound = weight[0].numel() ** -0.5
        if name in feeds_norm:
            nn.init.uniform_(weight, -bound, bound, generator=random)
        else:
            nn.init.uniform_(weight, -bound, bound, generator=random)
        if bias is not None:
            nn.init.uniform_(bias, -bound, bound, generator=random)
