"""How the learning rate moves in the course of training."""

import math
from collections.abc import Mapping
from typing import Any

from experiments.checks import COUNT, not_allowed

SCHEDULES = ("one_cycle", "step", "constant")


def learning_rate_factor(recipe: Mapping, step: int, total_steps: int) -> float:
    """Return the learning rate at `step` (0 = first) as a fraction of its maximum.

    `constant`: 1. `step`: times `drop_factor` after each of the epochs in `drops`, torch's MultiStepLR.
    `one_cycle`: a half cosine from 1/25 up to 1 over the first 30 % of the steps, then one down to 1/250,000 at
    the last step; torch's OneCycleLR with its defaults and a fixed momentum.
    """
    if recipe["schedule"] == "constant":
        return 1.0
    if recipe["schedule"] == "step":
        finished_epochs = step * recipe["epochs"] // total_steps
        return recipe["drop_factor"] ** sum(drop <= finished_epochs for drop in recipe["drops"])
    start, end, rise = 1 / 25, 1 / 25 / 1e4, 0.3 * total_steps - 1
    if step <= rise:
        low, high, share = start, 1.0, step / rise
    else:
        low, high, share = 1.0, end, (step - rise) / (total_steps - 1 - rise)
    return high + (low - high) * (1 + math.cos(math.pi * share)) / 2


def check_drops(drops: Any, epochs: int) -> None:
    """Raise ConfigError unless `drops` are numbers of epochs after which a drop can come."""
    allowed = f"a list of increasing epochs below recipe.epochs={epochs}, written 'recipe.drops=[...]'"
    if not isinstance(drops, list) or not drops or not all(map(COUNT.accepts, drops)):
        raise not_allowed("recipe.drops", drops, f"{allowed}, while recipe.schedule=step")
    if sorted(set(drops)) != drops or drops[-1] >= epochs:
        raise not_allowed("recipe.drops", drops, allowed)
