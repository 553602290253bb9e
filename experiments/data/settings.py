"""Which keys each data set takes and which values they allow; checked without touching a file."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .dataset import DataError


class Rule(NamedTuple):
    """What one key allows: in words for the error line, and as a test."""

    allowed: str
    accepts: Callable[[Any], bool]


def _whole(value: Any) -> bool:
    # Python counts True as the number 1; `train_size=true` is a slip all the same.
    return isinstance(value, int) and not isinstance(value, bool)


def _real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _count(value: Any) -> bool:
    return _whole(value) and value >= 1


def _path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike) and os.fspath(value) != ""


COUNT = Rule("a whole number of at least 1", _count)
SIZE = Rule("null for all, or a whole number of at least 1", lambda value: value is None or _count(value))
SWITCH = Rule("true or false", lambda value: isinstance(value, bool))
FOLDER = Rule("the path of a folder", _path)

FILE_RULES = {"root": FOLDER, "download": SWITCH, "train_size": SIZE, "test_size": SIZE}
RULES: dict[str, dict[str, Rule]] = {
    "digits": {},
    "fashion_mnist": FILE_RULES,
    "cifar10": FILE_RULES,
    "cifar100": FILE_RULES,
    "gaussian": {
        "features": COUNT,
        "classes": Rule("a whole number of at least 2", lambda value: _whole(value) and value >= 2),
        "mean": Rule("a finite number", _real),
        "variance": Rule("a finite number above 0", lambda value: _real(value) and value > 0),
        "correlation": Rule("a number in [0, 1)", lambda value: _real(value) and 0 <= value < 1),
        "train_size": COUNT,
        "test_size": COUNT,
        "seed": Rule("a whole number in [0, 2^63)", lambda value: _whole(value) and 0 <= value < 2**63),
    },
}
DATA_NAMES = tuple(RULES)


def validate_data_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check names, types and ranges of a data configuration; give it as a plain dict, values resolved.

    Raises:
        DataError: the first key that is unknown, missing or out of range. No file is looked at.
    """
    if not isinstance(config, Mapping):
        raise DataError(f"data={config!r}: not a data set; choose data=NAME from {', '.join(DATA_NAMES)}")
    settings = dict(config)
    name = settings.get("name")
    if not isinstance(name, str) or name not in RULES:
        raise DataError(f"data.name={name!r}: unknown; choose one of {', '.join(DATA_NAMES)}")
    rules = RULES[name]
    for key in settings:
        if key != "name" and key not in rules:
            known = ", ".join(rules) or "nothing but its name"
            raise DataError(f"data.{key!s}: unknown; data={name} takes {known}")
    for key, rule in rules.items():
        if key not in settings:
            raise DataError(f"data.{key} is missing: data={name} needs {rule.allowed}")
        if not rule.accepts(settings[key]):
            raise DataError(f"data.{key}={settings[key]!r}: must be {rule.allowed}")
    return settings
