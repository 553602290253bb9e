"""The name of a study that nobody named: that of its sweep, or of the default, and behind it what it cannot mix.

A study grows along what its rows tell apart, and along what its sweep sweeps. What else a command line sets is in
the name, so that two commands that must not share a study do not meet in one: `first_look-epochs_3`.
"""

import glob
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Override

from experiments.settings.config import RESULT_KEYS, Job, axes_of_growth, flatten, make_job

Configs = Sequence[Mapping[str, Any]]
GROUPS = ("recipe", "data", "model")  # whose choice sets what a study cannot mix
LONGEST_VALUE, LONGEST = 24, 100  # characters


def study_name(
    typed: Sequence[Override],
    swept: Sequence[str],
    jobs: Sequence[Job],
    configs: Configs,
    compose: Callable[[Sequence[Override]], Configs],
) -> str:
    """Return the name of the study of a command line that names none; nothing where it is that of its sweep.

    `typed` are its overrides, `swept` the keys that its sweep's file sweeps, `jobs` and `configs` what came of
    them; `compose` returns the configurations of other overrides. Where a study of the sweep's name already holds
    such jobs, it is theirs.
    """
    base = jobs[0].study
    words = _words(typed, swept, configs, compose)
    if not words or any(job.study != base for job in jobs):
        return ""
    if _holds(jobs[0].folder, {job.setting_name for job in jobs}):
        return ""
    name = "-".join([base, *words])
    return name if len(name) <= LONGEST else f"{base[: LONGEST - 9]}-{_hash(words)}"


def _words(
    typed: Sequence[Override],
    swept: Sequence[str],
    configs: Configs,
    compose: Callable[[Sequence[Override]], Configs],
) -> list[str]:
    """Return what of a command line a study cannot mix: choices, then keys, in whatever order they were typed."""
    choices = {o.key_or_group: o for o in typed if o.key_or_group in (*GROUPS, "sweep") and _is_choice(o)}
    keys = tuple(
        f"{o.key_or_group}."
        for o in typed
        if o.key_or_group.split(".")[0] in RESULT_KEYS and not _is_choice(o)
    )
    if not keys and choices.keys() <= {"sweep"}:
        return []
    chosen = compose([*choices.values()])
    words = {}
    if "recipe" in choices:
        plain = compose([o for group, o in choices.items() if group == "sweep"])
        if _values(chosen, "recipe.name") != _values(plain, "recipe.name"):
            words["recipe"] = _one(_values(chosen, "recipe.name"), "recipe")
    # A recipe may be another one for other data, or another network.
    same_recipe = compose([o for group, o in choices.items() if group in ("sweep", "recipe")])
    recipes_differ = any(
        _values(chosen, key) != _values(same_recipe, key)
        for key in _bound(chosen, swept)
        if key.startswith(("recipe.", "measure."))
    )
    for group in {"data", "model"} & choices.keys():
        files = {json.dumps(str(value)) for value in _chosen(choices[group])}
        if recipes_differ or (group not in swept and files != _values(chosen, f"{group}.name")):
            words[group] = _one(files, group)
    for key in _bound(configs, swept):
        if f"{key}.".startswith(keys) and (values := _values(configs, key)) != _values(chosen, key):
            last = key.rpartition(".")[2]
            words[key] = last if len(values) > 1 else f"{last}_{_one(values, last)}"
    order = [*GROUPS, *_bound(configs, swept)]
    return [words[key] for key in sorted(words, key=order.index)]


def _is_choice(override: Override) -> bool:
    """Say whether an override chooses files, where it could also set keys of a section."""
    return "." not in override.key_or_group and not isinstance(override.value(), Mapping)


def _chosen(override: Override) -> list[Any]:
    return [*override.sweep_iterator()] if override.is_sweep_override() else [override.value()]


def _bound(configs: Configs, swept: Sequence[str]) -> list[str]:
    """Return the dotted keys, in their order, that must be alike in all members of a study."""
    axes = (*axes_of_growth(swept), "data.name.", "model.name.")
    found = {
        key: None for config in configs for key, _ in flatten({name: config[name] for name in RESULT_KEYS})
    }
    return [key for key in found if not f"{key}.".startswith(axes)]


def _values(configs: Configs, key: str) -> set[str]:
    """Return all values of a dotted key, as JSON; 1.0 is 1."""
    found: set[str] = set()
    for config in configs:
        value: Any = config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        found.add(json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value))
    return found


def _one(values: set[str], otherwise: str) -> str:
    """Return a value as a name may hold it; `otherwise` stands for several."""
    if len(values) > 1:
        return otherwise
    (value,) = values
    text = value.strip('"')
    return text if re.fullmatch(r"[\w.+-]+", text) and len(text) <= LONGEST_VALUE else _hash(value)


def _holds(study: Path, settings: set[str]) -> bool:
    """Say whether a study holds members of one of these settings, of whatever layout it is."""
    return any(
        _setting(Path(path)) in settings for path in glob.glob(f"{glob.escape(str(study))}/*/*/config.yaml")
    )


def _setting(config: Path) -> str:
    """Return the name of a part's setting: it begins the part's own; in an earlier layout its file tells."""
    if found := re.fullmatch(r"(.+-[0-9a-f]{8})-[0-9a-f]{8}", config.parent.name):
        return found[1]
    try:
        return make_job(yaml.safe_load(config.read_text())).setting_name
    except (OSError, ValueError, TypeError, LookupError, yaml.YAMLError):  # of no version that we know
        return ""


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:8]
