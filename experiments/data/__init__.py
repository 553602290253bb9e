"""Data sets as whole tensors: `load_data` takes the section `data` of a configuration and gives a `Data`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature

from experiments.checks import ConfigError
from experiments.memory import check_memory

from .cifar import CIFAR10, CIFAR100, load_cifar
from .custom import load_custom
from .dataset import Data
from .digits import load_digits
from .fashion_mnist import load_fashion_mnist
from .gaussian import gaussian_bytes, load_gaussian
from .image_files import ImageFiles
from .image_folder import load_image_folder
from .settings import DATA_NAMES, DataSettings, check_data_config

__all__ = ["DATA_NAMES", "Data", "DataSettings", "ImageFiles", "check_data_config", "load_data"]

LOADERS: dict[str, Callable[..., Data]] = {
    "digits": load_digits,
    "fashion_mnist": load_fashion_mnist,
    "cifar10": partial(load_cifar, CIFAR10),
    "cifar100": partial(load_cifar, CIFAR100),
    "gaussian": load_gaussian,
    "image_folder": load_image_folder,
    "custom": load_custom,
}
# Of sets that are made up, not read: the memory that this takes, by the keys that it depends on.
BYTES: dict[str, Callable[..., int]] = {"gaussian": gaussian_bytes}


def load_data(settings: DataSettings) -> Data:
    """Load a data set onto the CPU; equal settings and files give equal tensors.

    Raises:
        ConfigError: files that are missing, damaged or of the wrong kind; samples that no memory here can hold.
    """
    if count := BYTES.get(settings.name):
        sizes = {key: settings.options[key] for key in signature(count).parameters}
        try:
            check_memory(count(**sizes))
        except MemoryError as error:
            typed = ", ".join(f"data.{key}={value}" for key, value in sizes.items())
            raise ConfigError(f"data={settings.name}: {error}; lower one of {typed}") from error
    return LOADERS[settings.name](**settings.options).hold_out(settings.validation)
