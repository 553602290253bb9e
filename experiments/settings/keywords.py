"""Keyword arguments as a command line's overrides: `members={"seed": [0, 1]}` is `members.seed=[0,1]`."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from experiments.checks import not_allowed
from experiments.settings.options import quoted

ALLOWED = "a number, a text, a path, true, false, null, a list of these, or a section of keys"
PLAIN = re.compile(
    r"(?!(null|true|false|nan|inf)$)[a-z_][\w./-]*", re.IGNORECASE
)  # text that Hydra reads as text


def overrides_of(keys: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield an override for each key of the sections. Raises ConfigError for a value that none can be.

    A value is one value: a list is a list, and several jobs are typed, as in "model.width=8,16".
    """
    for key, value in keys.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from overrides_of(value, f"{name}.")
        else:
            yield f"{'+' if name == 'sweep' else ''}{name}={_text(name, value)}"


def _text(key: str, value: Any) -> str:
    """Return a value as Hydra reads it from a command line."""
    value = value.tolist() if hasattr(value, "tolist") else value  # of NumPy, pandas or torch
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str() | PurePath():
            return str(value) if PLAIN.fullmatch(str(value)) else quoted(str(value))
        case list() | tuple() | range():
            return f"[{','.join(_text(key, element) for element in value)}]"
    raise not_allowed(key, repr(value), ALLOWED)
