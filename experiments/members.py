"""Members: the networks of one job, which differ only in numbers."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from analysis.theory import noise_variance
from experiments.checks import ConfigError

PLACEMENTS = ("before_bn", "before_weight", "after_last_bn")
STRENGTH_NAMES = {"dropout": "rate", "uout": "beta", "gaussian": "std"}
_RANGES = {  # what the strength of each family may be, in words and as a test
    "dropout": ("a drop rate in [0, 1)", lambda rate: 0 <= rate < 1),
    "uout": ("in [0, 1]", lambda beta: 0 <= beta <= 1),
    "gaussian": ("finite and >= 0", lambda std: 0 <= std < math.inf),
}


@dataclass(frozen=True)
class Member:
    """One trained network: where which noise of which strength acts, from which seed.

    `strength` is the family's own parameter: dropout's drop `rate`, Uout's `beta`, the Gaussian `std`.
    The baseline has placement and noise "none" and strength 0.
    """

    placement: str
    noise: str
    strength: float
    seed: int
    lr: float
    weight_decay: float

    @property
    def noise_variance(self) -> float:
        """sigma^2 = Var(m), the axis on which the families compare."""
        return noise_variance(self.noise, self.strength)


def expand_members(spec: Mapping, recipe: Mapping) -> list[Member]:
    """Return every member that `spec` (the config's `members`) names, the baseline of each seed first.

    `lr` and `weight_decay` of the members are lists too; null means the recipe's own value.
    Raises ConfigError, one line, for an unknown name, a value out of range, an empty list or a duplicate.
    """
    unknown = set(spec) - {"seed", "none", "lr", "weight_decay", *STRENGTH_NAMES}
    if unknown:
        raise ConfigError(
            f"members.{sorted(unknown)[0]}", "unknown", "seed, none, lr, weight_decay, dropout, uout, gaussian"
        )
    seeds = _numbers(spec, "members", "seed", int, "integers >= 0", lambda seed: seed >= 0)
    rates = _optimiser_values(spec, "lr", recipe, "finite and > 0", lambda lr: 0 < lr < math.inf)
    decays = _optimiser_values(spec, "weight_decay", recipe, "finite and >= 0", lambda wd: 0 <= wd < math.inf)
    if not isinstance(spec.get("none", True), bool):
        raise ConfigError("members.none", spec["none"], "true (train the baseline too) or false")
    noises = [("none", "none", 0.0)] if spec.get("none", True) else []
    for family in STRENGTH_NAMES:
        noises += _family_noises(family, spec.get(family))
    members = [
        Member(placement, noise, strength, seed, lr, decay)
        for seed, lr, decay, (placement, noise, strength) in itertools.product(seeds, rates, decays, noises)
    ]
    if not members:
        raise ConfigError("members", "no member at all", "at least members.none=true or one noise family")
    return members


def _family_noises(family: str, spec: Mapping | None) -> list[tuple[str, str, float]]:
    """Return (placement, noise, strength) of one family; none of them when the family is null."""
    if spec is None:
        return []
    key, name = f"members.{family}", STRENGTH_NAMES[family]
    if not isinstance(spec, Mapping):
        raise ConfigError(key, spec, f"null or {{{name}: [...], placement: [...]}}")
    unknown = set(spec) - {name, "placement"}
    if unknown:
        raise ConfigError(f"{key}.{sorted(unknown)[0]}", "unknown", f"{name}, placement")
    strengths = _numbers(spec, key, name, float, *_RANGES[family])
    placements = _list(spec, key, "placement")
    for placement in placements:
        if placement not in PLACEMENTS:
            raise ConfigError(f"{key}.placement", placement, ", ".join(PLACEMENTS))
    return [(placement, family, strength) for placement in placements for strength in strengths]


def _optimiser_values(spec: Mapping, name: str, recipe: Mapping, allowed: str, test) -> list[float]:
    if spec.get(name) is None:
        return [float(recipe[name])]
    return _numbers(spec, "members", name, float, allowed, test)


def _numbers(spec: Mapping, key: str, name: str, kind: type, allowed: str, test) -> list:
    """Return the list `spec[name]` as numbers of `kind`, each of which passes `test`."""
    values = []
    for value in _list(spec, key, name):
        right_type = isinstance(value, int | float if kind is float else int) and not isinstance(value, bool)
        if not right_type or not test(value):
            raise ConfigError(f"{key}.{name}", value, allowed)
        values.append(kind(value))
    return values


def _list(spec: Mapping, key: str, name: str) -> list:
    """Return `spec[name]`, which must be a list with something in it and nothing twice."""
    values = spec.get(name)
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{key}.{name}", values, f"a list with at least one value, e.g. '{key}.{name}=[...]'")
    for value in values:
        if values.count(value) > 1:
            raise ConfigError(f"{key}.{name}", f"{value} twice", "each value once, or members are duplicates")
    return values
