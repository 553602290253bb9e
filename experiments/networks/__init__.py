"""The networks, by the name that the configuration gives them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from experiments.checks import COUNT, Rule, check_section, not_allowed, one_of
from experiments.layers.norms import NORMS
from experiments.networks.convnet import ConvNet
from experiments.networks.custom import Custom
from experiments.networks.densenet import DenseNet
from experiments.networks.imagenet import ImageNetNet
from experiments.networks.mlp import MLP
from experiments.networks.network import Network, NoiseSite
from experiments.networks.preresnet import PreResNet
from experiments.networks.resnext import ResNeXt
from experiments.networks.wide_resnet import WideResNet
from experiments.seeds import generator
from experiments.targets import with_source

__all__ = [
    "NETWORKS",
    "ModelSettings",
    "Network",
    "NoiseSite",
    "build_network",
    "check_model_config",
    "check_sample_shape",
    "initialise",
    "training_bytes",
]

NETWORKS: dict[str, type[Network]] = {
    "mlp": MLP,
    "convnet": ConvNet,
    "preresnet": PreResNet,
    "wide_resnet": WideResNet,
    "resnext": ResNeXt,
    "densenet": DenseNet,
    "imagenet_net": ImageNetNet,
    "custom": Custom,
}
DEPTH = Rule(
    "a whole number of at least 1, at most 10000", lambda value: COUNT.accepts(value) and value <= 10_000
)
RULES: dict[str, Rule] = {"name": one_of(*NETWORKS), "width": COUNT, "depth": DEPTH, "norm": one_of(*NORMS)}


@dataclass(frozen=True)
class ModelSettings:
    """The section `model` of the configuration; `options` are the network's own keys."""

    name: str
    width: int
    depth: int
    norm: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def section(self) -> dict[str, Any]:
        """The section as it is written in the configuration."""
        return {key: getattr(self, key) for key in RULES} | dict(self.options)


def check_model_config(config: Any) -> ModelSettings:
    """Return the section `model` of the configuration, or raise ConfigError."""
    name: Any = config.get("name") if isinstance(config, Mapping) else config
    if not RULES["name"].accepts(name):
        raise not_allowed("model.name", name, RULES["name"].allowed)
    section = check_section("model", config, {**RULES, **NETWORKS[name].OPTIONS})
    options = {key: section.pop(key) for key in [*section] if key not in RULES}
    return ModelSettings(**section, options=with_source("model", options) if "target" in options else options)


def check_sample_shape(model: ModelSettings, sample_shape: tuple[int, ...]) -> None:
    """Raise ConfigError unless a network can read samples of this shape."""
    if NETWORKS[model.name].needs_images and len(sample_shape) != 3:
        flat = ", ".join(name for name, network in NETWORKS.items() if not network.needs_images)
        raise not_allowed("model.name", model.name, f"{flat}, because these data are not images")


def build_network(model: ModelSettings, sample_shape: tuple[int, ...], classes: int, seed: int) -> Network:
    """Return a network with the initial weights of `seed`.

    Raises ConfigError when it cannot read samples of this shape.
    """
    random = generator(seed, "weights")
    with torch.random.fork_rng(devices=[]):  # torch's own initialisation draws numbers too
        torch.manual_seed(random.initial_seed())
        network = _construct(model, sample_shape, classes)
    if not network.is_foreign:
        initialise(network, random)
    return network


def training_bytes(model: ModelSettings, sample_shape: tuple[int, ...], classes: int) -> int:
    """Return how many bytes the weights, gradients and momentum of one network take, without making any.

    A user's own code is not asked to do without. Raises ConfigError when it cannot read samples of this shape.
    """
    with torch.device("cpu" if NETWORKS[model.name].is_foreign else "meta"):
        network = _construct(model, sample_shape, classes)
    return 3 * sum(weight.nbytes for weight in network.parameters())


def _construct(model: ModelSettings, sample_shape: tuple[int, ...], classes: int) -> Network:
    check_sample_shape(model, sample_shape)
    options = {"width": model.width, "depth": model.depth, "norm": model.norm, **model.options}
    return NETWORKS[model.name](sample_shape, classes, **options)


def initialise(network: Network, random: torch.Generator) -> None:
    """Draw all weights of `network`, in the order of its modules, from one generator.

    Linear layers and biases start from U(-d^-1/2, d^-1/2) with fan-in d, as torch's do; convolutions from He's
    normal distribution over the fan-out, as the paper's do; normalisation from scale 1 and shift 0.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=random)
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            nn.init.uniform_(module.weight, -bound, bound, generator=random)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -bound, bound, generator=random)
