"""Which keys each data set takes and which values they allow; checked without touching a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments.checks import (
    COUNT,
    FOLDER,
    FRACTION,
    POSITIVE,
    REAL,
    SWITCH,
    Rule,
    check_section,
    is_real,
    is_whole,
    not_allowed,
    null_or,
    one_of,
)
from experiments.targets import TARGET_RULES, with_source

SIZE = null_or(COUNT, "all")
SIDE = Rule("a whole number from 1 to 4096", lambda value: COUNT.accepts(value) and value <= 4096)

VALIDATION = Rule(
    "0, a share in (0, 1), or a whole number of samples",
    lambda value: is_real(value) and value >= 0 and (value < 1 or is_whole(value)),
)
# What a configuration meant that was written before this key was there.
WITHOUT_KEY = {"validation": 0}

FILE_RULES = {
    "root": FOLDER,
    "download": SWITCH,
    "train_size": SIZE,
    "test_size": SIZE,
    "image_size": null_or(COUNT, "as they are"),
}
RULES: dict[str, dict[str, Rule]] = {
    "digits": {},
    "fashion_mnist": FILE_RULES,
    "cifar10": FILE_RULES,
    "cifar100": FILE_RULES,
    "image_folder": {"root": FOLDER, "train_size": SIZE, "test_size": SIZE, "image_size": SIDE},
    "gaussian": {
        "features": COUNT,
        "classes": Rule("a whole number of at least 2", lambda value: is_whole(value) and value >= 2),
        "mean": REAL,
        "variance": POSITIVE,
        "correlation": FRACTION,
        "train_size": COUNT,
        "test_size": COUNT,
        "seed": Rule("a whole number in [0, 2^63)", lambda value: is_whole(value) and value >= 0),
    },
    "custom": TARGET_RULES,
}
DATA_NAMES = tuple(RULES)
NAME = one_of(*DATA_NAMES)


@dataclass(frozen=True)
class DataSettings:
    """The section `data` of the configuration; `options` are the keyword arguments of the set's own loader."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    validation: float = 0

    @property
    def section(self) -> dict[str, Any]:
        """The section as it is written in the configuration."""
        return {"name": self.name, **self.options, "validation": self.validation}


def check_data_config(config: Any) -> DataSettings:
    """Return the section `data` of the configuration, its names, types and ranges checked.

    Raises:
        ConfigError: the first key that is unknown, missing or out of range. No file is looked at but that of a
            target whose source is not given.
    """
    name: Any = config.get("name") if isinstance(config, Mapping) else config
    if not NAME.accepts(name):
        raise not_allowed("data.name", name, NAME.allowed)
    given = WITHOUT_KEY | dict(config) if isinstance(config, Mapping) else config
    section = check_section("data", given, {"name": NAME, **RULES[name], "validation": VALIDATION})
    options = {key: section[key] for key in RULES[name]}
    options = with_source("data", options) if "target" in options else options
    return DataSettings(name, options, section["validation"])
