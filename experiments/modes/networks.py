"""The networks of the tutorials as they stand, real data in the shapes that they take, and plain training."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.data import Data, DataSettings, load_data


def mlp() -> nn.Sequential:
    """784 - 256 - ReLU - Dropout(0.3) - 10."""
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, 10))


def image_classifier() -> nn.Sequential:
    """The end of an image network: feature maps [256, 4, 4] - 128 - ReLU - 10."""
    return nn.Sequential(nn.Flatten(), nn.Linear(256 * 4 * 4, 128), nn.ReLU(), nn.Linear(128, 10))


def batch_norm() -> nn.BatchNorm2d:
    """BatchNorm over 256 channels, with what are torch's defaults."""
    return nn.BatchNorm2d(256, eps=1e-5, momentum=0.1)


def image_network() -> nn.Sequential:
    """8x8 images through a convolution, `batch_norm` and pooling into the feature maps of `image_classifier`."""
    return nn.Sequential(
        nn.Conv2d(1, 256, 3, padding=1), batch_norm(), nn.ReLU(), nn.MaxPool2d(2), *image_classifier()
    )


def logistic_regression() -> nn.Sequential:
    """5 features - 1 - sigmoid."""
    return nn.Sequential(nn.Linear(5, 1), nn.Sigmoid())


def bn_dropout_network() -> nn.Sequential:
    """Two blocks of BN, ReLU and Dropout(0.5), each behind a linear layer: the second BN meets dropout's noise."""
    return nn.Sequential(
        *[nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.5)],
        *[nn.Linear(128, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.5)],
        nn.Linear(128, 10),
    )


@lru_cache(maxsize=1)
def digits() -> Data:
    """1,437 training and 360 test scans of handwritten digits, [samples, 64]."""
    return load_data(DataSettings("digits"))


def as_images(inputs: Tensor) -> Tensor:
    """Digits [samples, 64] as images [samples, 1, 8, 8]."""
    return inputs.view(-1, 1, 8, 8)


def as_784(inputs: Tensor) -> Tensor:
    """Digits [samples, 64] enlarged to the 28x28 pixels that the MLP takes, [samples, 784]."""
    return F.interpolate(as_images(inputs), size=(28, 28), mode="bilinear").flatten(1)


def stored_statistics(bn: nn.Module) -> tuple[Tensor, Tensor]:
    """Copies of BN's stored mean and variance, [channels] each."""
    assert isinstance(bn, nn.BatchNorm1d | nn.BatchNorm2d)
    assert bn.running_mean is not None
    assert bn.running_var is not None
    return bn.running_mean.clone(), bn.running_var.clone()


def train(network: nn.Module, inputs: Tensor, labels: Tensor, epochs: int, lr: float = 0.02) -> None:
    """Train in train mode by SGD with momentum 0.9 on shuffled batches of 64."""
    network.train()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr, momentum=0.9)
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(network(inputs[batch]), labels[batch]).backward()
            optimizer.step()


@torch.no_grad()
def error_percent(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Share of wrong predictions, percent, of one pass in whatever mode the network is in."""
    return 100 * (network(inputs).argmax(1) != labels).double().mean().item()
