"""What can be given on the command line, read from the files in conf, and what is said of all else."""

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override, Quote, QuotedString
from omegaconf import OmegaConf
from omegaconf.errors import GrammarParseError
from yaml import YAMLError

from experiments.checks import ConfigError, no_such_key, not_allowed, shown

CONF = Path(__file__).resolve().parents[2] / "conf"
SEARCH_PATH = "hydra.searchpath"  # the key, and in Hydra's loader the provider, of folders of the user's own
# Choices that have become commands of their own.
COMMANDS = {("sweep", "modes"): "python -m experiments.modes"}
# What Hydra says of a choice that a group of its own does not have.
_CHOICES = re.compile(r"Could not find '(.+)/(.+)'\s+Available options in '\1':(.+)", re.DOTALL)


def folder_of(place: str) -> Path | None:
    """Return the folder that a place of a search path is; None where pkg:// names no package."""
    if not place.startswith("pkg://"):
        return Path(place.removeprefix("file://"))
    try:
        spec = find_spec(place.removeprefix("pkg://").replace("/", "."))
    except (ImportError, ValueError):
        return None
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def files_of(group: str) -> dict[str, list[Path]]:
    """Return the files to choose from in a group by their names, those of conf first, then the user's own."""
    files: dict[str, list[Path]] = {}
    for folder in _folders():
        for path in sorted((folder / group).glob("*.yaml")):
            files.setdefault(path.stem, []).append(path)
    return dict(sorted(files.items()))


def choice_files() -> dict[str, dict[str, list[Path]]]:
    """Return the files of each group, but for those of Hydra's own groups."""
    names = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra")
    return {group: files_of(group) for group in names}


def groups() -> dict[str, list[str]]:
    """Return the names to choose from in each group: its files."""
    return {group: list(files) for group, files in choice_files().items()}


def _folders() -> list[Path]:
    """Return conf, and what a search path in use adds to it (`experiments.settings.search_path`)."""
    hydra = GlobalHydra.instance()
    path = hydra.config_loader().get_search_path().get_path() if hydra.is_initialized() else []
    own = [folder_of(str(place.path)) for place in path if place.provider == SEARCH_PATH]
    return [CONF, *(folder for folder in own if folder is not None)]


def known_keys() -> dict[str, list[str]]:
    """Return every key, dotted (model, model.width, members.seed ...), with the choices that have it.

    A key such as model.width stands only in the files of its group that are listed with it, such as mlp; keys
    that are always there have none listed.
    """
    keys: dict[str, list[str]] = {key: [] for key in _dotted(CONF / "config.yaml")}
    for group, files in choice_files().items():
        keys[group] = []
        for choice, (file, *_) in files.items() if group != "sweep" else []:  # a sweep has no keys of its own
            for key in _dotted(file, f"{group}."):
                keys.setdefault(key, []).append(choice)
    return {key: choices for key, choices in keys.items() if key.split(".")[0] not in ("hydra", "defaults")}


def quoted(text: str) -> str:
    """Return a text as Hydra reads it from a command line: one value, whatever stands in it."""
    return QuotedString(text, Quote.single).with_quotes()


def explain(overrides: Sequence[Override], reason: str) -> ConfigError:
    """Return the error for overrides that Hydra refuses, for a `reason` that only Hydra's users understand."""
    for override in overrides:
        if not (override.is_hydra_override() or override.is_delete()):
            error = _explain_group(override) or _explain_key(override, reason)
            if error is not None:
                return error
    for override in overrides:
        if override.is_delete() and override.key_or_group in (choices := groups()):
            group = override.key_or_group
            return ConfigError(
                f"~{group}: {group} is missing then: allowed is one of {', '.join(choices[group])}"
            )
    culprits = [override for override in overrides if override.key_or_group in reason] or overrides
    short_reason = re.split(r"\n(?=Config search path|\s*full_key)", reason)[0]
    if missing := _CHOICES.search(short_reason):
        return not_allowed(missing[1], missing[2], "one of " + ", ".join(missing[3].split()))
    of_hydra = all(override.is_hydra_override() for override in culprits)
    mend = "; --help lists what can be set" if of_hydra else ""
    return ConfigError(f"{' '.join(map(_as_typed, culprits))}: {short_reason}{mend}")


def reason_of(error: BaseException) -> str:
    """Return what an exception of Hydra's says, with what lies behind it."""
    if isinstance(error, GrammarParseError):
        return r"${ begins a reference, such as ${study}; write \${ for these two characters"
    said = str(error).split(", set env var HYDRA_FULL_ERROR")[0] or type(error).__name__
    if error.__cause__ is None or said.startswith("Could not override"):
        return said
    behind = reason_of(error.__cause__)
    # Which override could not be merged is said elsewhere.
    return behind if said.startswith("Error merging") else f"{said}: {behind}"


def _explain_group(override: Override) -> ConfigError | None:
    """Return the error of a group's override that cannot be right."""
    group, value, choices = override.key_or_group, override.value(), groups()
    if group not in choices:
        return None
    for name in value if isinstance(value, list) else [value]:
        if (group, str(name)) in COMMANDS:
            return ConfigError(f"+{group}={name}: this is a command of its own: {COMMANDS[group, str(name)]}")
        if name not in choices[group]:
            return not_allowed(group, name, "one of " + ", ".join(choices[group]))
    if group == "sweep" and not override.is_add():
        return ConfigError(f"sweep={value}: no sweep is chosen yet; write +sweep={value}")
    return None


def _explain_key(override: Override, reason: str) -> ConfigError | None:
    """Return the error of a key that no file has, or none of those that are chosen."""
    key, keys = override.key_or_group, known_keys()
    if key not in keys and key not in groups():
        return no_such_key(key, override.value(), keys, "--help lists them all")
    if keys.get(key) and f"Could not override '{key}'" in reason:
        group = key.split(".")[0]
        owners = " or ".join(f"{group}={choice}" for choice in keys[key])
        return ConfigError(f"{_as_typed(override)}: no key of the chosen {group}, only of {owners}")
    return None


def _as_typed(override: Override) -> str:
    return override.get_key_element() + ("" if override.is_delete() else f"={shown(override.value())}")


def _dotted(config: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of a file or section."""
    if isinstance(config, Path):
        try:
            config = OmegaConf.to_container(OmegaConf.load(config))
        except (OSError, ValueError, YAMLError) as error:
            raise ConfigError(f"{config}: not readable as YAML ({error})") from error
    for key, value in config.items() if isinstance(config, Mapping) else ():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
