"""The logger's section of the configuration."""

import re
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from experiments.checks import Rule, null_or, one_of, ruled, typed_section
from experiments.settings.options import CONF

PROJECT = Rule(
    "letters, digits, blanks and _ + - . only, at most 128",
    lambda value: isinstance(value, str) and re.fullmatch(r"[\w+. -]{1,128}", value, re.ASCII) is not None,
)
ENTITY = Rule(
    "the name of a user or team: letters, digits and _ -",
    lambda value: isinstance(value, str) and re.fullmatch(r"[\w-]{1,128}", value, re.ASCII) is not None,
)


@dataclass(frozen=True)
class WandbSettings:
    """The section `logger` of a configuration that logs to W&B."""

    name: str = ruled(one_of("none", "wandb"))
    mode: str = ruled(one_of("offline", "online"))
    project: str = ruled(PROJECT)
    entity: str | None = ruled(null_or(ENTITY, "W&B's default for the account"))


def wandb_settings(**changes: Any) -> WandbSettings:
    """Return the settings of conf/logger/wandb.yaml with some `changes`, checked. Raises ConfigError."""
    defaults = dict(OmegaConf.load(CONF / "logger" / "wandb.yaml"))
    return typed_section(WandbSettings, "logger", defaults | changes)
