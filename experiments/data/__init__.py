"""Data sets as whole tensors: `load_data` takes a configuration from `conf/data` and gives a `Data`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from .cifar import CIFAR10, CIFAR100, load_cifar
from .dataset import Data
from .digits import load_digits
from .fashion_mnist import load_fashion_mnist
from .gaussian import load_gaussian
from .image_files import ImageFiles
from .image_folder import load_image_folder
from .settings import DATA_NAMES, validate_data_config

__all__ = ["DATA_NAMES", "Data", "ImageFiles", "load_data", "validate_data_config"]

LOADERS: dict[str, Callable[..., Data]] = {
    "digits": load_digits,
    "fashion_mnist": load_fashion_mnist,
    "cifar10": partial(load_cifar, CIFAR10),
    "cifar100": partial(load_cifar, CIFAR100),
    "gaussian": load_gaussian,
    "image_folder": load_image_folder,
}


def load_data(config: Mapping[str, Any]) -> Data:
    """Load the data set of a configuration onto the CPU; equal configuration and files give equal tensors.

    Raises:
        ConfigError: a bad key or value, or files that are missing, damaged or of the wrong kind.
    """
    settings = validate_data_config(config)
    validation = settings.pop("validation")
    return LOADERS[settings.pop("name")](**settings).hold_out(validation)
