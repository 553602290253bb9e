"""How the learning rate moves in the course of training."""

import math

from experiments.settings.recipe import Recipe


def learning_rate_factor(recipe: Recipe, step: int, total_steps: int) -> float:
    """Return the learning rate at `step` (0 = first) as a fraction of its maximum.

    `constant`: 1. `step`: times `drop_factor` after each of the epochs in `drops`, torch's MultiStepLR.
    `one_cycle`: a half cosine from 1/25 up to 1 over the first 30 % of the steps, then one down to 1/250,000 at
    the last step; torch's OneCycleLR with its defaults and a fixed momentum.
    """
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "step":
        assert recipe.drops is not None
        finished_epochs = step * recipe.epochs // total_steps
        return recipe.drop_factor ** sum(drop <= finished_epochs for drop in recipe.drops)
    start, end, rise = 1 / 25, 1 / 25 / 1e4, 0.3 * total_steps - 1
    if step <= rise:
        low, high, share = start, 1.0, step / rise
    else:
        low, high, share = 1.0, end, (step - rise) / (total_steps - 1 - rise)
    return high + (low - high) * (1 + math.cos(math.pi * share)) / 2
