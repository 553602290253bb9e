"""The logger's section of the configuration."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from experiments.checks import Rule, check_section, null_or, one_of
from experiments.settings.options import CONF

PROJECT = Rule(
    "letters, digits, blanks and _ + - . only, at most 128",
    lambda value: isinstance(value, str) and re.fullmatch(r"[\w+. -]{1,128}", value, re.ASCII) is not None,
)
ENTITY = Rule(
    "the name of a user or team: letters, digits and _ -",
    lambda value: isinstance(value, str) and re.fullmatch(r"[\w-]{1,128}", value, re.ASCII) is not None,
)
LOGGER_RULES = {
    "none": {"name": one_of("none", "wandb")},
    "wandb": {
        "name": one_of("none", "wandb"),
        "mode": one_of("offline", "online"),
        "project": PROJECT,
        "entity": null_or(ENTITY, "W&B's default for the account"),
    },
}


class Destination(NamedTuple):
    """Where in W&B runs belong."""

    project: str
    entity: str | None


def check_logger_config(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the configuration's section `logger`, checked; without one nothing is logged. Raises ConfigError."""
    config = {"name": "none"} if config is None else config
    name = config.get("name")
    return check_section("logger", config, LOGGER_RULES["wandb" if name == "wandb" else "none"])


def wandb_defaults() -> dict[str, Any]:
    """Return the values of conf/logger/wandb.yaml."""
    return dict(OmegaConf.load(CONF / "logger" / "wandb.yaml"))
