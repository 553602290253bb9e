"""Data sets as whole tensors: `load_data` takes a configuration from `conf/data` and gives a `Data`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .dataset import Data, DataError
from .digits import load_digits
from .gaussian import load_gaussian
from .settings import DATA_NAMES, validate_data_config

__all__ = ["DATA_NAMES", "Data", "DataError", "load_data", "validate_data_config"]

LOADERS = {"digits": load_digits, "gaussian": load_gaussian}


def load_data(config: Mapping[str, Any]) -> Data:
    """Load the data set of a configuration onto the CPU; equal configuration and files give equal tensors.

    Raises:
        DataError: a bad key or value, or files that are missing, damaged or of the wrong kind.
    """
    settings = validate_data_config(config)
    return LOADERS[settings.pop("name")](**settings)
