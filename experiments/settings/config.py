"""From a composed Hydra configuration to a checked job."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.checks import (
    COUNT,
    SECTION,
    TEXT,
    Rule,
    check_section,
    is_whole,
    not_allowed,
    null_or,
    one_of,
)
from experiments.data import validate_data_config
from experiments.members import Member, expand_members
from experiments.networks import NETWORKS, check_model_config
from experiments.settings.device import DEVICE
from experiments.settings.logger import check_logger_config
from experiments.settings.recipe import check_recipe_config
from experiments.settings.shards import shard_members, shard_name

# What a job computes; everything else says only where and how fast.
RESULT_KEYS = ("data", "model", "recipe", "members", "measure")
# Files may lie anywhere: the folder in which they were found does not change what they hold.
DATA_KEYS_WITHOUT_EFFECT = ("root", "download")
RECIPE_KEYS_WITHOUT_EFFECT = ("checkpoint_every",)

_AUTO_COUNT = Rule(
    "auto, or a whole number of at least 1", lambda value: value == "auto" or COUNT.accepts(value)
)
KINDS = ("members", "modes")
TOP_RULES = {
    **dict.fromkeys(RESULT_KEYS, SECTION),
    "logger": null_or(SECTION, "none"),
    "kind": one_of(*KINDS),
    "study": Rule(
        "the name of a folder: letters, digits, blanks and _ + - . only, not a dot in front",
        lambda value: isinstance(value, str) and re.fullmatch(r"[\w+-][\w+. -]{0,99}", value) is not None,
    ),
    "output": TEXT,
    "device": DEVICE,
    "processes": _AUTO_COUNT,
    "chunk": _AUTO_COUNT,
    "job": null_or(SECTION, "jobs are whole"),
}
JOB_RULES = {
    "shards": COUNT,
    "shard": null_or(COUNT, "every one of them"),
    "retry": one_of("failed", "none"),
}
JOB_DEFAULTS = {"shards": 1, "shard": None, "retry": "failed"}  # of studies from before there were shards
MEASURE_RULES = {
    "draws": COUNT,
    "flips": Rule("a whole number of at least 0", lambda value: is_whole(value) and value >= 0),
}


@dataclass(frozen=True)
class Job:
    """One architecture on one data set with one recipe, and all its members or a shard of them; all checked."""

    config: dict[str, Any]  # the resolved configuration as plain containers
    members: list[Member]
    all_members: list[Member]  # of the whole job; the same list unless the job is a shard

    @property
    def folder(self) -> Path:
        """Where the study lies."""
        return Path(self.config["output"]) / self.config["study"]

    @cached_property
    def setting(self) -> str:
        """All that the results depend on besides the members, as text; jobs with equal ones do the same work."""
        sections = {key: self.config[key] for key in RESULT_KEYS if key != "members"}
        sections["data"] = without(sections["data"], DATA_KEYS_WITHOUT_EFFECT)
        sections["recipe"] = without(sections["recipe"], RECIPE_KEYS_WITHOUT_EFFECT)
        return json.dumps({key: _plain(section) for key, section in sections.items()}, sort_keys=True)

    @cached_property
    def name(self) -> str:
        """The job's folder within the study: the name of the whole job, and which shard of it this is."""
        return shard_name(self.whole_name, self.config["job"]["shard"], self.config["job"]["shards"])

    @cached_property
    def whole_name(self) -> str:
        """The name that tables know the job by: readable, and different for every different result."""
        model = self.config["model"]
        results = self.setting + json.dumps(sorted(astuple(member) for member in self.all_members))
        return (
            f"{self.config['data']['name']}-{model['name']}-width{model['width']}-depth{model['depth']}"
            f"-{model['norm']}-{hashlib.sha256(results.encode()).hexdigest()[:8]}"
        )

    def overlaps(self, other: "Job") -> bool:
        """Say whether two jobs, each as a whole, train a member that is the same in both."""
        return self.setting == other.setting and not set(self.all_members).isdisjoint(other.all_members)


def make_job(config: Mapping[str, Any]) -> Job:
    """Check a resolved configuration and return its job. Raises ConfigError."""
    config = check_section("", config, TOP_RULES)
    config["data"] = validate_data_config(config["data"])
    config["model"] = check_model_config(config["model"])
    recipe = config["recipe"] = check_recipe_config(config["recipe"])
    if recipe["precision"] != "float32" and not NETWORKS[name := config["model"]["name"]].needs_images:
        raise not_allowed(
            "recipe.precision", recipe["precision"], f"float32, because {name} has no convolution"
        )
    config["logger"] = check_logger_config(config["logger"])
    measure = config["measure"]
    if isinstance(measure, Mapping):  # a job that was run before there were flips kept none
        measure = {"flips": 0} | dict(measure)
    config["measure"] = check_section("measure", measure, MEASURE_RULES)
    config["job"] = check_section("job", JOB_DEFAULTS | dict(config["job"] or {}), JOB_RULES)
    members = expand_members(config["members"], recipe)
    shards, shard = config["job"]["shards"], config["job"]["shard"]
    if shards > len(members):
        raise not_allowed("job.shards", shards, f"at most {len(members)}, the members of a job")
    if shard is None:
        return Job(config, members, members)
    if shard > shards:
        raise not_allowed("job.shard", shard, f"null, or a whole number from 1 to job.shards={shards}")
    return Job(config, shard_members(members, shards)[shard - 1], members)


def split_job(job: Job) -> list[Job]:
    """Return the shards of a whole job, as its key job.shards wants them; a job that is a shard stays as it is."""
    shards = job.config["job"]["shards"]
    if shards == 1 or job.config["job"]["shard"] is not None:
        return [job]
    return [
        replace(job, config=job.config | {"job": job.config["job"] | {"shard": shard}}, members=members)
        for shard, members in enumerate(shard_members(job.all_members, shards), start=1)
    ]


def without(section: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """Return a section without some of its keys."""
    return {key: value for key, value in section.items() if key not in keys}


def _plain(section: Mapping[str, Any]) -> dict[str, Any]:
    """Write 1.0 as 1, so that both name the same job."""
    return {
        key: int(value) if isinstance(value, float) and value.is_integer() else value
        for key, value in section.items()
    }
