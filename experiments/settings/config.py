"""From a composed Hydra configuration to a checked job."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from experiments.checks import (
    COUNT,
    FOLDER,
    SECTION,
    SWITCH,
    Rule,
    check_section,
    is_whole,
    not_allowed,
    null_or,
    one_of,
    optional_section,
    ruled,
    typed_section,
)
from experiments.data import DataSettings, check_data_config
from experiments.members import Member, expand_members
from experiments.networks import NETWORKS, ModelSettings, check_model_config
from experiments.settings.device import DEVICE
from experiments.settings.logger import WandbSettings
from experiments.settings.recipe import Recipe, check_recipe_config
from experiments.settings.shards import shard_members
from experiments.settings.until import Until

# What a job computes; everything else says only where and how fast.
RESULT_KEYS = ("data", "model", "recipe", "members", "measure")
# Files may lie anywhere: the folder in which they were found does not change what they hold.
DATA_KEYS_WITHOUT_EFFECT = ("root", "download")
# Members have a learning rate and a weight decay of their own, for which the recipe's only stand in.
RECIPE_KEYS_WITHOUT_EFFECT = ("checkpoint_every", "lr", "weight_decay")
# Where members of one study may differ, because their rows say so.
OPEN_KEYS = (
    *("members", "model.width", "model.depth", "model.norm"),
    *("recipe.lr", "recipe.weight_decay", "recipe.batch_size"),
)

_AUTO_COUNT = Rule(
    "auto, or a whole number of at least 1", lambda value: value == "auto" or COUNT.accepts(value)
)
STUDY = Rule(
    "the name of a folder: letters, digits, blanks and _ + - . only, not a dot in front",
    lambda value: isinstance(value, str) and re.fullmatch(r"[\w+-][\w+. -]{0,99}", value) is not None,
)
TOP_RULES = {
    **dict.fromkeys(RESULT_KEYS, SECTION),
    "logger": null_or(SECTION, "none"),
    "until": null_or(SECTION, "none"),
    "study": STUDY,
    "output": FOLDER,
    "device": DEVICE,
    "processes": _AUTO_COUNT,
    "chunk": _AUTO_COUNT,
    "job": null_or(SECTION, "jobs are whole"),
}


@dataclass(frozen=True)
class Cut:
    """The section `job`: how a job is cut into shards, and which of its missing members it trains."""

    shards: int = ruled(COUNT)
    shard: int | None = ruled(null_or(COUNT, "every one of them"))
    retry: str = ruled(one_of("failed", "none"))
    mix_versions: bool = ruled(SWITCH)


# What the section is where it is missing.
WHOLE = {"shards": 1, "shard": None, "retry": "failed", "mix_versions": False}


@dataclass(frozen=True)
class Measure:
    """The section `measure`: how the shift is measured once a member is trained."""

    draws: int = ruled(COUNT)
    flips: int = ruled(Rule("a whole number of at least 0", lambda value: is_whole(value) and value >= 0))
    interventions: bool = ruled(SWITCH)


WITHOUT_KEY = {
    "flips": 0,
    "interventions": True,
}  # what a section meant that was written before a key was there


@dataclass(frozen=True)
class Job:
    """One architecture on one data set with one recipe, the *setting*, and members of it; all checked.

    `spec` is the section `members` as it was typed; `members`, in their order, are those that this job wants or
    trains: all of these, a shard of them, or what a study lacks of either.
    """

    data: DataSettings
    model: ModelSettings
    recipe: Recipe
    spec: Mapping[str, Any]
    measure: Measure
    logger: WandbSettings | None
    until: Until | None
    study: str
    output: str
    device: str
    processes: int | Literal["auto"]
    chunk: int | Literal["auto"]
    cut: Cut
    members: list[Member]

    @property
    def folder(self) -> Path:
        """Where the study lies."""
        return Path(self.output) / self.study

    @property
    def saves(self) -> bool:
        """Whether the weights of its members are kept."""
        return bool(self.spec.get("save"))

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration as plain containers: what `make_job` makes this job of."""
        return {
            "data": self.data.section,
            "model": self.model.section,
            "recipe": asdict(self.recipe),
            "members": dict(self.spec),
            "measure": asdict(self.measure),
            "logger": {"name": "none"} if self.logger is None else asdict(self.logger),
            "until": {"name": "none"} if self.until is None else asdict(self.until),
            **{key: getattr(self, key) for key in ("study", "output", "device", "processes", "chunk")},
            "job": asdict(self.cut),
        }

    @cached_property
    def setting(self) -> str:
        """All that the results depend on besides the members, as text; jobs with equal ones do the same work."""
        config = self.config
        sections = {key: config[key] for key in RESULT_KEYS if key != "members"}
        sections["data"] = without(sections["data"], DATA_KEYS_WITHOUT_EFFECT)
        sections["recipe"] = without(sections["recipe"], RECIPE_KEYS_WITHOUT_EFFECT)
        return json.dumps({key: _plain(section) for key, section in sections.items()}, sort_keys=True)

    @cached_property
    def setting_name(self) -> str:
        """The name that tables know the setting by: readable, and different for every different one."""
        model = self.model
        return (
            f"{self.data.name}-{model.name}-width{model.width}-depth{model.depth}-{model.norm}"
            f"-{_short_hash(self.setting)}"
        )

    @cached_property
    def name(self) -> str:
        """The name of the job, and of the part of a study that it makes: the setting's, and which members."""
        members = [astuple(member) for member in self.members]
        return f"{self.setting_name}-{_short_hash(json.dumps(members))}"


def make_job(config: Mapping[str, Any]) -> Job:
    """Check a resolved configuration and return its job. Raises ConfigError."""
    config = check_section("", config, TOP_RULES)
    data, model = check_data_config(config["data"]), check_model_config(config["model"])
    recipe = check_recipe_config(config["recipe"])
    if recipe.precision != "float32" and not NETWORKS[model.name].needs_images:
        why = "is computed as you wrote it" if NETWORKS[model.name].is_foreign else "has no convolution"
        raise not_allowed("recipe.precision", recipe.precision, f"float32, because {model.name} {why}")
    measure = typed_section(Measure, "measure", WITHOUT_KEY | dict(config["measure"]))
    cut = typed_section(Cut, "job", WHOLE | dict(config["job"] or {}))
    members = expand_members(config["members"], recipe.lr, recipe.weight_decay)
    if cut.shards > len(members):
        raise not_allowed("job.shards", cut.shards, f"at most {len(members)}, the members of a job")
    if cut.shard is not None and cut.shard > cut.shards:
        raise not_allowed(
            "job.shard", cut.shard, f"null, or a whole number from 1 to job.shards={cut.shards}"
        )
    own = members if cut.shard is None else shard_members(members, cut.shards)[cut.shard - 1]
    return Job(
        data=data,
        model=model,
        recipe=recipe,
        spec=config["members"],
        measure=measure,
        logger=optional_section(WandbSettings, "logger", config["logger"]),
        until=optional_section(Until, "until", config["until"]),
        **{key: config[key] for key in ("study", "output", "device", "processes", "chunk")},
        cut=cut,
        members=own,
    )


def split_job(job: Job) -> list[Job]:
    """Return the shards of a whole job, as its key job.shards wants them; a job that is a shard stays as it is."""
    if job.cut.shards == 1 or job.cut.shard is not None:
        return [job]
    return [
        replace(job, cut=replace(job.cut, shard=shard), members=members)
        for shard, members in enumerate(shard_members(job.members, job.cut.shards), start=1)
    ]


def axes_of_growth(swept: Sequence[str]) -> tuple[str, ...]:
    """Return the keys, each with a dot behind, in which members of one study may differ that sweeps `swept`."""
    free = [*OPEN_KEYS, *swept, *(f"data.{key}" for key in DATA_KEYS_WITHOUT_EFFECT)]
    return tuple(f"{key}." for key in [*free, *(f"recipe.{key}" for key in RECIPE_KEYS_WITHOUT_EFFECT)])


def flatten(config: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each dotted key of nested sections with its value."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def without(section: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """Return a section without some of its keys."""
    return {key: value for key, value in section.items() if key not in keys}


def _plain(section: Mapping[str, Any]) -> dict[str, Any]:
    """Write 1.0 as 1, so that both name the same job."""
    return {
        key: int(value) if isinstance(value, float) and value.is_integer() else value
        for key, value in section.items()
    }


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
