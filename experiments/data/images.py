"""From 8-bit images and labels to a standardised `Data`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.checks import ConfigError

from .dataset import Data


class Images(NamedTuple):
    """Images as files hold them: pixels uint8 [N, channel, height, width] and labels uint8 [N]."""

    pixels: Tensor
    labels: Tensor


def check_labels(labels: Tensor, classes: int, path: Path) -> None:
    """Raise ConfigError when the file at `path` held a label of `classes` or above."""
    if (highest := int(labels.max())) >= classes:
        raise ConfigError(
            f"data.root: {path} holds the label {highest}, allowed is 0 to {classes - 1}; replace it"
        )


def select_first(images: Images, key: str, size: int | None) -> Images:
    """Give the first `size` images, all for None; raise ConfigError naming `key` when there are fewer."""
    available = len(images.labels)
    if size is not None and size > available:
        raise ConfigError(
            f"data.{key}={size}: must be at most {available}, the number of samples in the files"
        )
    return Images(images.pixels[:size], images.labels[:size])


def image_data(
    name: str, train: Images, test: Images, classes: int, image_size: int | None = None, fingerprint: str = ""
) -> Data:
    """Standardise both parts by the mean and standard deviation of each channel over the training part.

    Before that, images are averaged down to squares of `image_size` pixels a side; None keeps them. Works on one
    float copy in place, so that memory peaks at little over 1.25 times the size of the result. Raises ConfigError
    for an image_size above what the files hold.
    """
    train_inputs = train.pixels.to(torch.float32, memory_format=torch.contiguous_format)
    test_inputs = test.pixels.to(torch.float32, memory_format=torch.contiguous_format)
    if image_size is not None:
        if image_size > (side := min(train.pixels.shape[2:])):
            raise ConfigError(f"data.image_size={image_size}: must be at most {side}, the side of the images")
        train_inputs, test_inputs = (
            F.adaptive_avg_pool2d(inputs, image_size) for inputs in (train_inputs, test_inputs)
        )
    std, mean = torch.std_mean(train_inputs, dim=(0, 2, 3), correction=0, keepdim=True)  # [1, channel, 1, 1]
    if not bool((std > 0).all()):
        raise ConfigError(
            f"data={name}: all training images have one value throughout a channel; replace the files"
        )
    for inputs in (train_inputs, test_inputs):
        inputs.sub_(mean).div_(std)
    return Data(
        name,
        train_inputs,
        train.labels.long(),
        test_inputs,
        test.labels.long(),
        classes,
        pixel_mean=mean[0],
        pixel_std=std[0],
        fingerprint=fingerprint,
    )
