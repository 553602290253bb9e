"""How bad input is found and reported: rules for configuration values, and one line for what breaks them."""

import difflib
import errno
import json
import re
import stat
from collections.abc import Callable, Collection, Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

S = TypeVar("S")
LONGEST_SHOWN = 80  # characters of a value that an error line repeats
# What is no file, by the letter of `ls -l`.
NO_FILES = {"d": "folder", "p": "pipe", "s": "socket", "c": "device", "b": "device"}
LARGEST = 1e38  # number that a key may have: what is computed with it is float32, which ends at 3.4e38


def one_line(text: object) -> str:
    """Return a text as one line: of its characters those that can be printed, with single blanks between words."""
    printable = "".join(character if character.isprintable() else " " for character in str(text))
    return " ".join(printable.split())


class ConfigError(ValueError):
    """Bad input, found before anything is trained or written.

    Its text is one line: the key as the user would type it, the value that was given, and what is allowed or
    how to mend it.
    """

    def __init__(self, message: str):
        super().__init__(one_line(message))


def regular_file(path: Path) -> Path:
    """Return `path` if it is a file, perhaps through links. Raises OSError where it is none, or nothing is there.

    To be asked before a file of the user's is opened: a pipe may let its reader wait forever, and a device may
    have no end.
    """
    if not stat.S_ISREG(mode := path.stat().st_mode):
        kind = NO_FILES.get(stat.filemode(mode)[0], "thing of another kind")
        raise OSError(errno.EINVAL, f"is a {kind}, not a file", str(path))
    return path


class Rule(NamedTuple):
    """What one key allows: in words for the error line, and as a test that never raises."""

    allowed: str
    accepts: Callable[[Any], bool]


def is_whole(value: Any) -> bool:
    """Say whether a value is an integer that fits a table's column; Python counts True as the number 1."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def is_real(value: Any) -> bool:
    """Say whether a value is a number, neither infinite nor beyond LARGEST."""
    return is_whole(value) or (isinstance(value, float) and abs(value) <= LARGEST)


COUNT = Rule("a whole number of at least 1", lambda value: is_whole(value) and value >= 1)
REAL = Rule(f"a number in [-{LARGEST:g}, {LARGEST:g}]", is_real)
POSITIVE = Rule(f"a number above 0, at most {LARGEST:g}", lambda value: is_real(value) and value > 0)
NOT_NEGATIVE = Rule(
    f"a number of at least 0, at most {LARGEST:g}", lambda value: is_real(value) and value >= 0
)
FRACTION = Rule("a number in [0, 1)", lambda value: is_real(value) and 0 <= value < 1)
SWITCH = Rule("true or false", lambda value: isinstance(value, bool))
TEXT = Rule("a name", lambda value: isinstance(value, str) and value != "" and value.isprintable())
# Else s3://bucket would be a folder of that name.
FOLDER = Rule(
    "the path of a folder on this machine, of printable characters",
    lambda value: TEXT.accepts(value) and re.match(r"[A-Za-z][\w+.-]+:/", value) is None,
)
ANYTHING = Rule("anything", lambda value: True)
SECTION = Rule("a section of keys, written {key: value}", lambda value: isinstance(value, Mapping))


def one_of(*names: str) -> Rule:
    """Return the rule of a key that takes one of these names."""
    return Rule("one of " + ", ".join(names), lambda value: isinstance(value, str) and value in names)


def null_or(rule: Rule, meaning: str = "") -> Rule:
    """Return the rule of a key that may also be null, or left out; `meaning` says what null does."""
    null = f"null ({meaning})" if meaning else "null"
    return Rule(f"{null} or {rule.allowed}", lambda value: value is None or rule.accepts(value))


def shown(value: Any) -> str:
    """Return a value as an error line repeats it: null, true and lists as in the files of conf, cut when long."""
    text = str(value) if isinstance(value, str | float) else json.dumps(value, default=str)
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "..."


def not_allowed(key: str, value: Any, allowed: str) -> ConfigError:
    """Return the error of a value that breaks a rule."""
    return ConfigError(f"{key}={shown(value)}: allowed is {allowed}")


def no_such_key(key: str, value: Any, known: Collection[str], otherwise: str) -> ConfigError:
    """Return the error of an unknown key: it suggests the closest of the `known` ones, or says `otherwise`."""
    same = [name for name in known if name.split(".")[-1] == key.split(".")[-1]]  # in another section
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.75) or same
    hint = f"did you mean {close[0]}?" if close else otherwise
    return ConfigError(f"{key}={shown(value)}: no such key; {hint}")


def check_section(section: str, config: Any, rules: Mapping[str, Rule]) -> dict[str, Any]:
    """Return one section of the configuration as a dict, if it has the keys of `rules` and obeys them.

    `section` is "" for the top level. A key that may be null may be missing too, and is null in the result.
    Raises ConfigError naming the first key that is unknown, missing or out of range.
    """
    prefix = f"{section}." if section else ""
    known = [prefix + key for key in rules]
    if not isinstance(config, Mapping):
        raise not_allowed(section, config, "a section with the keys " + ", ".join(known))
    for key, value in config.items():
        if key not in rules:
            raise no_such_key(f"{prefix}{key}", value, known, "known are " + ", ".join(known))
    for key, rule in rules.items():
        value = config.get(key)
        if not rule.accepts(value):
            if key not in config:
                raise ConfigError(f"{prefix}{key} is missing: allowed is {rule.allowed}")
            raise not_allowed(prefix + key, value, rule.allowed)
    return {key: config.get(key) for key in rules}


def ruled(rule: Rule) -> Any:
    """Return a field of a dataclass that is a section of the configuration; `rule` says what its key allows."""
    return field(metadata={"rule": rule})


def rules_of(section_class: type) -> dict[str, Rule]:
    """Return the rules of the keys of a section, given as a dataclass with `ruled` fields."""
    return {key.name: key.metadata["rule"] for key in fields(section_class)}


def typed_section(section_class: type[S], section: str, config: Any) -> S:
    """Return a section of the configuration as an object of its dataclass, if it obeys the rules of its fields.

    Raises ConfigError as `check_section` does.
    """
    return section_class(**check_section(section, config, rules_of(section_class)))


def optional_section(section_class: type[S], section: str, config: Any) -> S | None:
    """Return a section whose `name` may be none as `typed_section` does; None for that, or where it is missing.

    Raises ConfigError as `check_section` does.
    """
    if config is None:
        return None
    name = rules_of(section_class)["name"]
    if config.get("name") != "none" and name.accepts(config.get("name")):
        return typed_section(section_class, section, config)
    check_section(section, config, {"name": name})
    return None
