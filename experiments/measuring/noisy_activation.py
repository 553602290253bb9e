"""The closure of convolutional networks: activations that carry their noise's moments through a network's forward.

A `NoisyActivation` goes through the network in place of a tensor. Each function of torch that the network calls
is answered by its rule, of `analysis.theory.noise_moments`. So the network itself is what is predicted, with its
shortcuts, groups and strides; one that calls a function without a rule has no prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analysis.theory.closure import Noise, Prediction
from analysis.theory.noise_moments import (
    Noisy,
    Normal,
    batch_moments,
    independent,
    moments,
    rectified,
    rectified_maximum,
    scaled,
    total,
    without_noise,
)
from analysis.theory.noises import FactorLaw
from experiments.measuring.shown import select
from experiments.networks.network import Network

# How many training samples stand for all, and the nodes of a factor's law.
SAMPLES = 128
NODES = 6


class NoisyActivation:
    """An activation [samples, channels, height, width] in both modes.

    `train` are its variables in train mode given the sample, `test` is its value in eval mode. `rectifies` are the
    variables whose positive part `train` is, if it is one.
    """

    def __init__(self, train: Noisy, test: Tensor, rectifies: Noisy | None = None):
        self.train, self.test, self.rectifies = train, test, rectifies

    def dim(self) -> int:
        """Return the number of axes."""
        return self.test.dim()

    def mean(self, dim: tuple[int, ...]) -> Tensor:
        """Return the mean in eval mode alone: networks take it behind the last BN, where nothing is predicted."""
        return self.test.mean(dim)

    def __mul__(self, law: FactorLaw) -> NoisyActivation:
        """Multiply by noise, a factor of this law at each element."""
        z = moments(self.train)
        return NoisyActivation(independent(z)._replace(law=law), self.test)

    def __add__(self, other: NoisyActivation) -> NoisyActivation:
        """Add an activation whose noise counts as independent; of both factors one is kept, if there is one."""
        first, second = self.train, other.train
        if len(second.law.points) > len(first.law.points):
            first, second = second, first
        return NoisyActivation(total(first, second), self.test + other.test)

    @classmethod
    def __torch_function__(
        cls, function: Callable, types: Sequence, args: tuple = (), kwargs: Any = None
    ) -> Any:
        """Answer a function of torch by its rule. Raises TypeError where there is none."""
        if function not in cls.RULES:
            raise TypeError(f"no rule for the noise behind {getattr(function, '__name__', function)}")
        return cls.RULES[function](*args, **(kwargs or {}))

    RULES: ClassVar[dict[Callable, Callable]] = {}


def _rule(function: Callable) -> Callable:
    def keep(rule: Callable) -> Callable:
        NoisyActivation.RULES[function] = rule
        return rule

    return keep


@_rule(F.conv2d)
def _convolution(x: NoisyActivation, weight: Tensor, bias: None, *geometry: Any) -> NoisyActivation:
    mean, variance = moments(x.train)
    z = Normal(F.conv2d(mean, weight, bias, *geometry), F.conv2d(variance, weight.square(), None, *geometry))
    return NoisyActivation(independent(z), F.conv2d(x.test, weight, bias, *geometry))


@_rule(F.avg_pool2d)
def _mean_pooling(x: NoisyActivation, size: int) -> NoisyActivation:
    mean, variance = (F.avg_pool2d(values, size) for values in moments(x.train))
    return NoisyActivation(independent(Normal(mean, variance / size**2)), F.avg_pool2d(x.test, size))


@_rule(F.batch_norm)
def _batch_norm(
    x: NoisyActivation, *_: Any, weight: Tensor, bias: Tensor, eps: float, **__: Any
) -> NoisyActivation:
    mean, variance = batch_moments(x.train)
    scale = weight / (variance + eps).sqrt()
    scale, shift = (values.view(-1, 1, 1) for values in (scale, bias - scale * mean))
    return NoisyActivation(scaled(x.train, scale, shift), scale * x.test + shift)


@_rule(F.relu)
def _relu(x: NoisyActivation, **_: Any) -> NoisyActivation:
    return NoisyActivation(independent(rectified(x.train)), F.relu(x.test), rectifies=x.train)


@_rule(F.max_pool2d)
def _max_pooling(
    x: NoisyActivation, size: int, stride: int | None = None, padding: int = 0, **_: Any
) -> NoisyActivation:
    test = F.max_pool2d(x.test, size, stride, padding)
    if not moments(x.train).variance.any():
        return NoisyActivation(without_noise(F.max_pool2d(x.train.z.mean, size, stride, padding)), test)
    if x.rectifies is None or padding:
        raise TypeError("no rule for the noise behind max-pooling but of a ReLU and without padding")

    def windows(values: Tensor) -> Tensor:  # [..., height, width] -> [..., height', width', size * size]
        step = stride or size
        return values.unfold(-2, size, step).unfold(-2, size, step).flatten(-2)

    z, r, law = x.rectifies
    inputs = Noisy(Normal(*map(windows, z)), Normal(*map(windows, r)), law)
    return NoisyActivation(independent(rectified_maximum(inputs)), test)


@_rule(torch.cat)
def _concatenation(parts: Sequence[NoisyActivation], dim: int) -> NoisyActivation:
    means, variances = zip(*(moments(part.train) for part in parts), strict=True)
    z = Normal(torch.cat(means, dim), torch.cat(variances, dim))
    return NoisyActivation(independent(z), torch.cat([part.test for part in parts], dim))


@torch.no_grad()
def predict_images(stack: Network, noises: Sequence[Noise], inputs: Tensor) -> list[Prediction]:
    """Predict the cumulative shift of each BN layer of a stack of networks of images, in their order.

    inputs [N, channels, height, width]; of these, `SAMPLES` are used, taken evenly. noises: one a member.

    Raises TypeError for a network that calls a function without a rule.
    """
    count = min(len(inputs), SAMPLES)
    samples = inputs[torch.arange(count) * len(inputs) // count]
    members = [_predict(select(stack, torch.tensor(row)), noise, samples) for row, noise in enumerate(noises)]
    return [
        Prediction(*map(torch.stack, zip(*of_layer, strict=True))) for of_layer in zip(*members, strict=True)
    ]


def _predict(network: Network, noise: Noise, samples: Tensor) -> list[Prediction]:
    """Return the prediction for each BN layer of one network, in numbers; the network's noise sites are set."""
    law = noise.family.law(noise.strength, NODES)
    for site in network.sites().values():
        if site.placement == noise.placement and noise.placement != "after_last_bn":
            site.factor = law  # type: ignore[assignment]
    predictions: dict[str, Prediction] = {}

    def look(name: str) -> Callable:
        def before(norm: nn.Module, arguments: tuple[NoisyActivation]) -> None:
            predictions[name] = _shift(arguments[0], norm.eps)  # type: ignore[arg-type]

        return before

    names = [norm_input.norm for norm_input in network.norm_inputs()]
    for name in names:
        network.get_submodule(name).register_forward_pre_hook(look(name))
    network(NoisyActivation(without_noise(samples), samples))
    return [predictions[name] for name in names]


def _shift(x: NoisyActivation, eps: float) -> Prediction:
    """Return the shift of a BN layer that reads x."""
    mean, variance = (values.double() for values in batch_moments(x.train))
    test_variance, test_mean = torch.var_mean(x.test.double(), (0, 2, 3), correction=0)
    mean_shift = ((test_mean - mean) / (variance + eps).sqrt()).square().mean().sqrt()
    return Prediction(test_variance.sum() / variance.sum(), mean_shift)
