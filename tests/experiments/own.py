"""A network and data of a user's own, as tests name them: tests.experiments.own:build and so on."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from experiments.networks import NoiseSite, initialise


class Block(nn.Module):
    def __init__(self, inputs: int, width: int, first: bool):
        super().__init__()
        self.before_weight = nn.Identity() if first else NoiseSite("before_weight")
        self.linear = nn.Linear(inputs, width, bias=False)
        self.before_bn = NoiseSite("before_bn")
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x):
        return F.relu(self.norm(self.before_bn(self.linear(self.before_weight(x)))))


class MLP(nn.Module):
    """The harness's MLP as a user would write it, part by part of the same name."""

    def __init__(self, inputs: int, classes: int, width: int, depth: int):
        super().__init__()
        sizes = [inputs, *[width] * depth]
        self.blocks = nn.ModuleList(Block(size, width, index == 0) for index, size in enumerate(sizes[:-1]))
        self.after_last_bn = NoiseSite("after_last_bn")
        self.classifier = nn.Linear(width, classes)

    def forward(self, x):
        x = x.flatten(1)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.after_last_bn(x))


def build(sample_shape, classes, width, depth, norm):
    """With the harness's own initial weights: those of the seed that torch was given."""
    network = MLP(math.prod(sample_shape), classes, width, depth)
    initialise(network, torch.Generator().manual_seed(torch.initial_seed()))  # type: ignore[arg-type]
    return network


def automatic(sample_shape, classes, width, depth, norm):
    """A network without sites; its parts' names are those of `explicit` without the last."""
    return _chain(sample_shape, classes, width, depth, lambda placement, part: part)


def explicit(sample_shape, classes, width, depth, norm):
    """The same with sites, which stand where they would be put in, and are named as they would be."""

    def behind_site(placement, part):
        pair = nn.Sequential()
        pair.add_module(placement, NoiseSite(placement))
        pair.add_module("part", part)
        return pair

    return _chain(sample_shape, classes, width, depth, behind_site)


def _chain(sample_shape, classes, width, depth, sited):
    parts = [
        nn.Flatten(),
        nn.Linear(math.prod(sample_shape), width),
        sited("before_bn", nn.BatchNorm1d(width)),
    ]
    for _ in range(depth - 1):
        parts += [nn.ReLU(inplace=True), sited("before_weight", nn.Linear(width, width))]
        parts += [sited("before_bn", nn.BatchNorm1d(width))]
    return nn.Sequential(*parts, nn.ReLU(inplace=True), sited("after_last_bn", nn.Linear(width, classes)))


def load():
    random = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(192, 6, generator=random), torch.arange(192) % 4
    inputs = inputs + 2 * F.one_hot(labels, 6)
    return (inputs[:128], labels[:128]), (inputs[128:], labels[128:])
