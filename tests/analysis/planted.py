"""Studies with planted effects: each kind of noise has a known shift and error, around which seeds spread."""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd

from analysis.tables import Study
from tests.analysis import synthetic

KINDS = [
    ("none", "none", 0.0),
    *product(("before_bn", "before_weight", "after_last_bn"), ["dropout"], (0.1, 0.5, 0.7)),
]
KINDS += [("before_weight", "uout", beta) for beta in (0.1, 0.5)]


@dataclass(frozen=True)
class Plan:
    """What is planted.

    Attributes:
        seeds: how many.
        shift: shift ratio of a layer under dropout is 1 - shift[placement] x rate.
        cost: percentage points of test error that dropout of rate 1 adds, by placement.
        won_back: share of that cost that BN adjustment wins back, in test error and, before_bn, in training error.
        cost_of_shift: points of test error for each unit of mean shift magnitude above 1, besides `cost`.
        spread: standard deviation of one member's test error around its seed's.
        widths: of the networks; the narrow one shifts more by `of_width` x rate.
    """

    seeds: int = 5
    shift: tuple[float, float, float] = (0.8, 0.3, 0.0)
    cost: tuple[float, float, float] = (4.0, 2.0, -1.5)
    won_back: float = 0.8
    cost_of_shift: float = 1.0
    spread: float = 0.1
    widths: tuple[int, ...] = (16, 64)
    of_width: float = 0.1


def no_effect(plan: Plan) -> Plan:
    """The same study where dropout neither shifts nor costs anything, anywhere."""
    return replace(plan, shift=(0, 0, 0), cost=(0, 0, 0), cost_of_shift=0, of_width=0)


def members_and_ratios(
    plan: Plan, random: np.random.Generator, **columns: object
) -> tuple[pd.DataFrame, np.ndarray]:
    """Draw a study's members, and the shift ratio of each; `columns` replace those that name its network."""
    placements = ["before_bn", "before_weight", "after_last_bn"]
    rows = [(width, *kind, seed) for width, kind, seed in product(plan.widths, KINDS, range(plan.seeds))]
    members = pd.DataFrame(rows, columns=["width", "placement", "noise", "strength", "seed"])
    members = members.assign(data="digits", model="mlp", depth=2, norm="batch", status="ok").assign(**columns)
    strength = (
        members["strength"].where(members["noise"] == "dropout", members["strength"] ** 2 / 3).to_numpy()
    )
    members["noise_variance"] = strength / (1 - strength)
    n = len(members)
    of_seed = random.normal(0, 1, plan.seeds)[members["seed"]]
    place = (
        members["placement"].map({name: index for index, name in enumerate(placements)}).fillna(0).astype(int)
    )
    slope = np.array(plan.shift)[place] + plan.of_width * (members["width"] == min(plan.widths)) * (
        place == 1
    )
    ratio = 1 - slope * strength
    cost = np.array(plan.cost)[place] * strength + plan.cost_of_shift * (1 / ratio - 1)
    members["test_error"] = 5 + of_seed + cost + random.normal(0, plan.spread, n)
    members["test_error_adjusted"] = (
        members["test_error"] - plan.won_back * cost + random.normal(0, plan.spread, n)
    )
    members["train_error_train_mode"] = 2 + of_seed + random.normal(0, plan.spread, n)
    members["train_error_eval_mode"] = members["train_error_train_mode"] + cost * (place == 0)
    members["train_error_eval_mode"] += random.normal(0, plan.spread, n)
    members["train_error_adjusted"] = (
        members["train_error_eval_mode"]
        - plan.won_back * cost * (place == 0)
        + random.normal(0, plan.spread, n)
    )
    return members, ratio


def study(plan: Plan, random: np.random.Generator, **columns: object) -> Study:
    """Draw a study; `columns` replace those that name its network."""
    members, ratio = members_and_ratios(plan, random, **columns)
    n = len(members)
    layers = pd.concat([members.assign(layer_index=index) for index in (1, 2)], ignore_index=True)
    noise = np.exp(random.normal(0, 0.05 * plan.spread, 2 * n))
    layers["shift_ratio"] = np.tile(ratio, 2) * noise
    layers["local_ratio"] = layers["shift_ratio"].where(layers["noise"] != "none")
    layers["local_ratio_exact"] = layers["local_ratio"]
    off = np.where(layers["placement"] == "before_weight", 1.3, 1.01)
    layers["ratio_paper"] = layers["local_ratio"] * off
    layers["fan_in"] = layers["width"]
    layers["d_cos2"] = layers["width"] * 0.05 * np.exp(random.normal(0, plan.spread, 2 * n))
    return Study("planted", members, layers)


def planted_costs(
    seeds=range(6), *, means=6.0, variances=2.0, interaction=0.0, twin_shift=1.0, every=0.3, spread=0.05
) -> pd.DataFrame:
    """Members whose wrong stored means and variances cost so many points at rate 1, and `every` without noise.

    All of it grows with the rate. `interaction` comes with both together, so that half of it counts to either;
    `twin_shift` is what the coarse shift costs the noise-free twin. Seeds spread by `spread` around every cost.
    """
    members, _ = synthetic.tables(widths=(16, 64), seeds=seeds, noises=("dropout",))
    random = np.random.default_rng(1)
    base = members["seed"].map({seed: random.normal(3, 0.5) for seed in seeds})
    noisy = members["noise"] != "none"
    rate = members["strength"] * np.exp(random.normal(0, spread, len(members)))
    right = base + 4 * rate
    members["test_error_both_right"] = members["test_error_adjusted"] = right
    members["test_error_variances_right"] = right + means * rate + every
    members["test_error_means_right"] = right + variances * rate
    members["test_error_frozen"] = right + (means + variances + interaction) * rate + every
    members["test_error"] = members["test_error_frozen"] + random.normal(0, spread, len(members))
    for part, key in ((0.25, "variances"), (1.0, "shift"), (0.75, "means"), (0.1, "random")):
        members[f"test_error_twin_{key}"] = (base + part * twin_shift * rate).where(noisy)
    return members
