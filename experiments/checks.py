"""How bad input is found and reported: rules for configuration values, and one line for what breaks them."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class ConfigError(ValueError):
    """Bad input, found before anything is trained or written. Its text is one line.

    Arguments: the key as the user would type it, the value that was given, and what is allowed or the mend.
    """

    def __init__(self, key: str, value: object, allowed: str):
        super().__init__(" ".join(f"{key}={value!s}: allowed is {allowed}".split()))


class Rule(NamedTuple):
    """What one key allows: in words for the error line, and as a test."""

    allowed: str
    accepts: Callable[[Any], bool]


def is_whole(value: Any) -> bool:
    """Say whether a value is an integer; Python counts True as the number 1, a configuration does not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    """Say whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


COUNT = Rule("a whole number of at least 1", lambda value: is_whole(value) and value >= 1)
SWITCH = Rule("true or false", lambda value: isinstance(value, bool))
TEXT = Rule("a name", lambda value: isinstance(value, str) and value != "")


def one_of(*names: str) -> Rule:
    """Return the rule of a key that takes one of these names."""
    return Rule("one of " + ", ".join(names), lambda value: isinstance(value, str) and value in names)


def check_section(section: str, config: Any, rules: Mapping[str, Rule]) -> dict[str, Any]:
    """Return one section of the configuration as a dict, if it has exactly the keys of `rules` and obeys them.

    `section` is "" for the top level. Raises ConfigError naming the first key that is unknown, missing or
    out of range.
    """
    dotted = (lambda key: f"{section}.{key}") if section else str
    if not isinstance(config, Mapping):
        raise ConfigError(section, config, "a section with the keys " + ", ".join(rules))
    for key in config:
        if key not in rules:
            raise ConfigError(dotted(key), config[key], "no such key; known are " + ", ".join(map(dotted, rules)))
    for key, rule in rules.items():
        if key not in config:
            raise ConfigError(dotted(key), "missing", rule.allowed)
        if not rule.accepts(config[key]):
            raise ConfigError(dotted(key), config[key], rule.allowed)
    return dict(config)
