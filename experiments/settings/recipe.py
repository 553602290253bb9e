"""The section `recipe` of the configuration: how members are trained."""

from collections.abc import Mapping
from typing import Any

from experiments.checks import (
    ANYTHING,
    COUNT,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    SWITCH,
    TEXT,
    ConfigError,
    Rule,
    check_section,
    is_real,
    is_whole,
    null_or,
    one_of,
)
from experiments.training.augment import AUGMENTATIONS
from experiments.training.precision import PRECISIONS
from experiments.training.schedule import SCHEDULES, check_drops

RULES = {
    "name": TEXT,
    "epochs": COUNT,
    "batch_size": Rule(
        "a whole number of at least 2, because BN needs two samples", lambda v: is_whole(v) and v >= 2
    ),
    "lr": POSITIVE,
    "schedule": one_of(*SCHEDULES),
    "drops": ANYTHING,  # checked with the schedule
    "drop_factor": Rule("a number in (0, 1]", lambda value: is_real(value) and 0 < value <= 1),
    "momentum": FRACTION,
    "nesterov": SWITCH,
    "weight_decay": NOT_NEGATIVE,
    "augment": one_of(*AUGMENTATIONS),
    "precision": one_of(*PRECISIONS),
    "track_modes": SWITCH,
    "checkpoint_every": null_or(COUNT, "no checkpoints"),
    "scaled_down": null_or(TEXT, "as published, or no published recipe"),
}
# What a recipe did that was written before these keys were there.
WITHOUT_KEY = {"drop_factor": 0.1, "augment": "none", "precision": "float32", "track_modes": False}


def check_recipe_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section `recipe` as a dict with every key, or raise ConfigError."""
    recipe = check_section("recipe", WITHOUT_KEY | dict(config), RULES)
    if recipe["nesterov"] and recipe["momentum"] == 0:
        raise ConfigError("recipe.nesterov=true: allowed is false while recipe.momentum=0")
    if recipe["schedule"] == "step":
        check_drops(recipe["drops"], recipe["epochs"])
    return recipe
