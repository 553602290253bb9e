"""The section `recipe` of the configuration: how members are trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
    is_real,
    is_whole,
    not_allowed,
    null_or,
    one_of,
    ruled,
    typed_section,
)

SCHEDULES = ("one_cycle", "step", "constant")
AUGMENTATIONS = ("none", "crop_flip")
PRECISIONS = ("float32", "bfloat16")
BATCH = Rule(
    "a whole number of at least 2, because BN needs two samples", lambda value: is_whole(value) and value >= 2
)
PART_OF_ONE = Rule("a number in (0, 1]", lambda value: is_real(value) and 0 < value <= 1)
# The values of a recipe that was written before these keys existed.
WITHOUT_KEY = {"drop_factor": 0.1, "augment": "none", "precision": "float32", "track_modes": False}


@dataclass(frozen=True)
class Recipe:
    """How members are trained; conf/recipe says what each key means.

    `epochs` and `drops` are those that are trained: `schedule_scale` is in them.
    """

    name: str = ruled(TEXT)
    epochs: int = ruled(COUNT)
    batch_size: int = ruled(BATCH)
    lr: float = ruled(POSITIVE)
    schedule: str = ruled(one_of(*SCHEDULES))
    drops: Sequence[int] | None = ruled(ANYTHING)  # checked with the schedule
    drop_factor: float = ruled(PART_OF_ONE)
    momentum: float = ruled(FRACTION)
    nesterov: bool = ruled(SWITCH)
    weight_decay: float = ruled(NOT_NEGATIVE)
    augment: str = ruled(one_of(*AUGMENTATIONS))
    precision: str = ruled(one_of(*PRECISIONS))
    track_modes: bool = ruled(SWITCH)
    checkpoint_every: int | None = ruled(null_or(COUNT, "no checkpoints"))
    scaled_down: str | None = ruled(null_or(TEXT, "as published, or no published recipe"))


def check_recipe_config(config: Mapping[str, Any]) -> Recipe:
    """Return the section `recipe`, its schedule scaled, or raise ConfigError."""
    config = WITHOUT_KEY | dict(config)
    scale = config.pop("schedule_scale", 1)
    if not PART_OF_ONE.accepts(scale):
        raise not_allowed("recipe.schedule_scale", scale, PART_OF_ONE.allowed)
    recipe = typed_section(Recipe, "recipe", config)
    if recipe.nesterov and recipe.momentum == 0:
        raise ConfigError("recipe.nesterov=true: allowed is false while recipe.momentum=0")
    if recipe.schedule == "step":
        _check_drops(recipe.drops, recipe.epochs)
    return recipe if scale == 1 else _scaled(recipe, scale)


def _scaled(recipe: Recipe, scale: float) -> Recipe:
    """Return the recipe with `scale` times its epochs, and drops after `scale` times theirs, to whole epochs."""
    epochs = max(1, round(recipe.epochs * scale))
    drops = recipe.drops and [round(drop * scale) for drop in recipe.drops]
    ends = [0, *(drops or []), epochs]
    if recipe.schedule == "step" and sorted(set(ends)) != ends:
        raise ConfigError(
            f"recipe.schedule_scale={scale:g}: makes drops after {drops} of {epochs} epochs; allowed is what "
            "leaves an epoch before, between and behind drops"
        )
    return replace(recipe, epochs=epochs, drops=drops)


def _check_drops(drops: Any, epochs: int) -> None:
    """Raise ConfigError unless `drops` are numbers of epochs after which a drop can come."""
    allowed = f"a list of increasing epochs below recipe.epochs={epochs}, written 'recipe.drops=[...]'"
    if not isinstance(drops, list) or not drops or not all(map(COUNT.accepts, drops)):
        raise not_allowed("recipe.drops", drops, f"{allowed}, while recipe.schedule=step")
    if sorted(set(drops)) != drops or drops[-1] >= epochs:
        raise not_allowed("recipe.drops", drops, allowed)
