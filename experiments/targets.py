"""Functions of the user's own, named on the command line as MODULE:NAME or PATH.py:NAME.

The text of the file that holds one is part of a setting, by its sha256; the files that it imports are not. It is
executed when its network or data are made, never when a study is read.
"""

import hashlib
import importlib
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments.checks import TEXT, ConfigError, Rule, null_or, regular_file

TARGET = Rule(
    "MODULE:NAME or PATH.py:NAME, a function in a file of Python",
    lambda value: TEXT.accepts(value) and re.fullmatch(r"(.+\.py|\w+(\.\w+)*):\w+", value) is not None,
)
SOURCE = null_or(TEXT, "that of the file as it is now")
TARGET_RULES = {"target": TARGET, "source": SOURCE}  # keys of a section that has one


def with_source(section: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `options` of a section that has a target with the sha256 of its file: recorded, or as it is now.

    Raises ConfigError for a file that is not there. Nothing is executed but, of MODULE, the packages around it.
    """
    if options["source"] is not None:
        return dict(options)
    _, _, text = _read(section, options["target"])
    return {**options, "source": _source_of(text)}


@cache
def load_target(section: str, target: str, source: str) -> Callable[..., Any]:
    """Execute the file of a section's target and return the function of that name.

    Raises ConfigError for a file that is not there, was changed since `source` was recorded, raises something, or
    holds no function of that name.
    """
    file, package, text = _read(section, target)
    if _source_of(text) != source:
        raise ConfigError(f"{section}.target={target}: {file} was changed meanwhile; type the command again")
    # A name of its own: what others imported under the file's name stays as it is.
    module = ModuleType(".".join(filter(None, [package, f"{file.stem}_{source}"])))
    module.__file__, module.__package__ = str(file), package
    sys.modules[module.__name__] = module
    try:
        exec(compile(text, file, "exec"), vars(module))
    except (Exception, SystemExit) as error:
        raise bad_target(section, target, f"the file raises {said(error)}", TARGET.allowed) from error
    name = target.rpartition(":")[2]
    if not callable(function := vars(module).get(name)):
        found = ", ".join(
            key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
        )
        raise bad_target(
            section, target, f"{file} holds no function {name}", f"one of {found or 'none there'}"
        )
    return function


def call_target(section: str, target: str, source: str, allowed: str, **arguments: Any) -> Any:
    """Return what a section's target returns for these arguments. Raises ConfigError for whatever it raises."""
    function = load_target(section, target, source)
    try:
        return function(**arguments)
    except (Exception, SystemExit) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise bad_target(
            section, target, f"called with ({given}) it raises {said(error)}", allowed
        ) from error


def bad_target(section: str, target: str, fault: str, allowed: str) -> ConfigError:
    """Return the error of a target, of what is wrong with it and what is allowed."""
    return ConfigError(f"{section}.target={target}: {fault}; allowed is {allowed}")


def said(error: BaseException) -> str:
    """Return an error in one line: its type, what it says, and where it was raised last."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"


def _read(section: str, target: str) -> tuple[Path, str, bytes]:
    """Return the file of a target, the package that it belongs to, and its text."""
    place, package = target.rpartition(":")[0], ""
    if place.endswith(".py"):
        file = Path(place).expanduser().absolute()
    else:
        try:
            importlib.invalidate_caches()
            spec = find_spec(place)
        except (Exception, SystemExit) as error:  # whatever the packages around it raise
            raise bad_target(
                section, target, f"{place} cannot be imported ({said(error)})", TARGET.allowed
            ) from error
        if spec is None or not (spec.origin or "").endswith(".py"):
            where = "a module of Python's search path, which begins with the current folder, or PATH.py:NAME"
            raise bad_target(section, target, f"no module {place} with a source file is found", where)
        file, package = Path(str(spec.origin)), spec.parent or ""
    try:
        return file, package, regular_file(file).read_bytes()
    except OSError as error:
        raise bad_target(
            section, target, f"{file} cannot be read ({error.strerror})", TARGET.allowed
        ) from error


def _source_of(text: bytes) -> str:
    # Begun by letters: Hydra reads a bare 12345678 as a number.
    return f"sha256-{hashlib.sha256(text).hexdigest()[:16]}"
