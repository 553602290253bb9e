"""Small networks and data for the tests of the audit, with noise where the tests know it."""

import torch
from torch import Tensor, nn


def trained(model: nn.Module, batches: list[Tensor], passes: int = 3) -> nn.Module:
    """The model after its BN layers saw the batches in train mode; its weights stay."""
    model.train()
    with torch.no_grad():
        for _ in range(passes):
            for x in batches:
                model(x)
    return model.eval()


def fitted(model: nn.Module, batches: list[tuple[Tensor, Tensor]], epochs: int, lr: float = 0.1) -> nn.Module:
    """The model after so many epochs of training on inputs and their class labels."""
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9)
    model.train()
    for _ in range(epochs):
        for x, labels in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), labels).backward()
            optimizer.step()
    return model.eval()


def vectors(batches: int = 20, batch: int = 64, features: int = 16, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, features, generator=generator) for _ in range(batches)]


def images(batches: int = 12, batch: int = 32, seed: int = 0, channels: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, channels, 10, 10, generator=generator) for _ in range(batches)]


def mlp(*before_bn: nn.Module, seed: int = 0, width: int = 32, features: int = 16) -> nn.Sequential:
    """Three BN layers, named 1, 4 (or later) and last; `before_bn` goes right before the second one."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(features, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        *before_bn,
        nn.Linear(width, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.BatchNorm1d(width),
    )


def convnet(noise: nn.Module, seed: int = 0) -> nn.Sequential:
    """BN layers 1 and 5, the noise (3) before the second convolution."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        noise,
        nn.Conv2d(8, 16, 3, stride=2, groups=2),
        nn.BatchNorm2d(16),
    )
