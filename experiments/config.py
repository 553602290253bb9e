"""From a composed Hydra configuration to a checked job."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.checks import COUNT, SWITCH, TEXT, ConfigError, Rule, check_section, is_real, is_whole, one_of
from experiments.data import Data, validate_data_config
from experiments.members import Member, expand_members
from experiments.networks import check_model_config

# What a job computes; everything else says only where and how fast.
RESULT_KEYS = ("data", "model", "recipe", "members", "measure")

_SECTION = Rule("a section", lambda value: isinstance(value, Mapping))
_AUTO_COUNT = Rule(
    "auto, or a whole number of at least 1", lambda value: value == "auto" or COUNT.accepts(value)
)
TOP_RULES = {
    **{key: _SECTION for key in RESULT_KEYS},
    "study": TEXT,
    "output": TEXT,
    "device": TEXT,
    "processes": _AUTO_COUNT,
    "chunk": _AUTO_COUNT,
}
RECIPE_RULES = {
    "name": TEXT,
    "epochs": COUNT,
    "batch_size": Rule("a whole number of at least 2 (BN needs two samples)", lambda v: is_whole(v) and v >= 2),
    "lr": Rule("a number above 0", lambda value: is_real(value) and value > 0),
    "schedule": one_of("one_cycle", "constant"),
    "momentum": Rule("a number in [0, 1)", lambda value: is_real(value) and 0 <= value < 1),
    "nesterov": SWITCH,
    "weight_decay": Rule("a number of at least 0", lambda value: is_real(value) and value >= 0),
}
MEASURE_RULES = {"draws": COUNT}


@dataclass(frozen=True)
class Job:
    """One architecture on one data set with one recipe, and all its members; every value checked."""

    config: dict[str, Any]  # the resolved configuration as plain containers
    members: list[Member]

    @property
    def folder(self) -> Path:
        """Where the study lies."""
        return Path(self.config["output"]) / self.config["study"]

    @property
    def name(self) -> str:
        """The job's folder within the study: readable, and different for every different result."""
        model = self.config["model"]
        results = {key: self.config[key] for key in RESULT_KEYS}
        # Files may lie anywhere: the folder they were found in does not change what they hold.
        results["data"] = {k: v for k, v in results["data"].items() if k not in ("root", "download")}
        digest = hashlib.sha256(json.dumps(results, sort_keys=True).encode()).hexdigest()[:8]
        return (
            f"{self.config['data']['name']}-{model['name']}-width{model['width']}-depth{model['depth']}"
            f"-{model['norm']}-{digest}"
        )


def make_job(config: Mapping[str, Any]) -> Job:
    """Check a resolved configuration and return its job. Raises ConfigError or DataError, one line each."""
    config = check_section("", config, TOP_RULES)
    if "/" in config["study"] or config["study"].startswith("."):
        raise ConfigError("study", config["study"], "a plain folder name; its parent folder is the key output")
    validate_data_config(config["data"])
    check_model_config(config["model"])
    recipe = check_section("recipe", config["recipe"], RECIPE_RULES)
    if recipe["nesterov"] and recipe["momentum"] == 0:
        raise ConfigError("recipe.nesterov", True, "false while recipe.momentum=0")
    check_section("measure", config["measure"], MEASURE_RULES)
    return Job(config, expand_members(config["members"], recipe))


def check_batch_fits(job: Job, data: Data) -> None:
    """Raise ConfigError when a batch is larger than the training set."""
    batch, samples = job.config["recipe"]["batch_size"], len(data.train_inputs)
    if batch > samples:
        raise ConfigError("recipe.batch_size", batch, f"at most {samples}, the training samples of {data.name}")
