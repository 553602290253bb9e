"""Members: the networks of one job, which differ only in numbers."""

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from analysis.schema import PLACEMENTS
from analysis.theory import noise_variance
from analysis.theory.noises import FAMILIES, NO_NOISE, NoiseFamily
from experiments.checks import (
    ANYTHING,
    NOT_NEGATIVE,
    POSITIVE,
    SECTION,
    SWITCH,
    ConfigError,
    Rule,
    check_section,
    is_real,
    is_whole,
    not_allowed,
    null_or,
    one_of,
    shown,
)

SEED = Rule("a whole number of at least 0", lambda value: is_whole(value) and value >= 0)
MEMBERS_RULES = {
    "seed": ANYTHING,  # lists are checked value by value in _values
    "none": SWITCH,
    "save": null_or(SWITCH, "false"),
    **{noise: null_or(SECTION, "left out") for noise in FAMILIES},
    "lr": ANYTHING,
    "weight_decay": ANYTHING,
}

# Of a seed the baseline comes first, then family by family, placement by placement.
_WORDS = (NO_NOISE.name, *FAMILIES, *PLACEMENTS)


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

    @property
    def order(self) -> tuple:
        """The place of the member among others of one setting, whatever order they were asked for in."""
        noise, placement = _WORDS.index(self.noise), _WORDS.index(self.placement)
        return self.seed, self.lr, self.weight_decay, noise, placement, self.strength


def member_of(row: Mapping[str, Any]) -> Member:
    """Return the member that a row of a table is of."""
    return Member(**{field.name: row[field.name] for field in fields(Member)})


def expand_members(spec: Any, lr: float, weight_decay: float) -> list[Member]:
    """Return every member that `spec` (the config's `members`) names, in their order.

    Its `lr` and `weight_decay` are lists too; where they are null, the recipe's own values are taken, given here.
    Raises ConfigError for an unknown name, a value out of range, an empty list or a duplicate.
    """
    spec = check_section("members", spec, MEMBERS_RULES)
    seeds = _values("members.seed", spec["seed"], SEED)
    rates, decays = [lr], [weight_decay]
    if spec["lr"] is not None:
        rates = _values("members.lr", spec["lr"], POSITIVE)
    if spec["weight_decay"] is not None:
        decays = _values("members.weight_decay", spec["weight_decay"], NOT_NEGATIVE)
    noises = [("none", NO_NOISE.name, 0)] if spec["none"] else []
    for noise in FAMILIES.values():
        noises += _placed_noises(noise, spec[noise.name])
    if not noises:
        raise ConfigError("members.none=false: without a noise family no member is left; set it to true")
    members = [
        Member(placement, noise, float(strength), seed, float(lr), float(decay))
        for seed, lr, decay, (placement, noise, strength) in itertools.product(seeds, rates, decays, noises)
    ]
    return sorted(members, key=lambda member: member.order)


def _placed_noises(noise: NoiseFamily, spec: Any) -> list[tuple[str, str, float]]:
    """Return (placement, noise, strength) of one family; none when it, or its list of strengths, is null."""
    if spec is None:
        return []
    key, name = f"members.{noise.name}", noise.strength_name
    spec = check_section(key, spec, {name: ANYTHING, "placement": ANYTHING})
    placements = _values(f"{key}.placement", spec["placement"], one_of(*PLACEMENTS))
    if spec[name] is None:
        return []
    rule = Rule(noise.allowed, lambda value: _has_noise_variance(noise, value))
    strengths = _values(f"{key}.{name}", spec[name], rule)
    return [(placement, noise.name, strength) for placement in placements for strength in strengths]


def _has_noise_variance(noise: NoiseFamily, strength: Any) -> bool:
    """Say whether the theory knows the variance of this noise; the ranges of the strengths are its own."""
    try:
        return is_real(strength) and is_real(noise.noise_variance(strength))
    except ValueError:
        return False


def _values(key: str, values: Any, rule: Rule) -> list:
    """Return a list of the configuration if it has values, all of them obey `rule`, and none is there twice."""
    if not isinstance(values, list):
        example = shown(values) if rule.accepts(values) else "..."
        raise not_allowed(key, values, f"a list of values, written '{key}=[{example}]'")
    if not values:
        raise not_allowed(key, values, f"a list of at least one value, each {rule.allowed}")
    for value in values:
        if not rule.accepts(value):
            raise not_allowed(key, value, rule.allowed)
    for value, count in Counter(values).items():
        if count > 1:
            raise ConfigError(f"{key}={shown(values)}: {value} is there twice, which makes duplicate members")
    return values
