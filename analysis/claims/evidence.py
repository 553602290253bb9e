"""What claims are tested on: a study's finished members with their mean shift, and contrasts of them by seed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.claims.verdict import CannotTestError, Contrast
from analysis.schema import NETWORK, RECIPE
from analysis.select import KIND
from analysis.stats import Estimate, independent_difference, mean_estimate
from analysis.tables import Study
from analysis.theory import shift_magnitude

REFERENCE_RATE = 0.5  # which the paper discusses; nothing measured chooses it
TUNED = "lr"  # chosen per kind of noise where the study varies it and has a validation split
ERRORS = ["train_error_train_mode", "train_error_eval_mode", "validation_error", "test_error_transplanted"]
MORE_SEEDS = "the study's own command with study=NAME 'members.seed=[0,1,2,3,4]'"
MAIN_STUDY = "python -m experiments.run +sweep=variance_shift"


@dataclass(frozen=True)
class Evidence:
    """The tables as claims read them.

    Attributes:
        members: finished members, with `shift`: the mean over BN layers of max(r, 1/r) (as in the paper's
            Figure 4), empty without BN; and `twin_error`: test error of the noiseless network of the same seed.
        layers: their BN layers.
        network: the columns that tell networks apart in this study, width among them.
    """

    members: pd.DataFrame
    layers: pd.DataFrame
    network: list[str]

    def where(self, **wanted) -> pd.DataFrame:
        """The members whose columns have the wanted values (a list means any of them)."""
        table = self.members
        for column, value in wanted.items():
            table = table[table[column].isin(value if isinstance(value, list) else [value])]
        return table

    def dropout(self, placement: str, rate: float | None = None) -> pd.DataFrame:
        """Networks with BN under dropout at one placement, all rates or one; CannotTestError without any."""
        found = self.where(norm="batch", noise="dropout", placement=placement)
        found = found[found["strength"] > 0]
        return _require(found if rate is None else found[found["strength"] == rate], f"dropout {placement}")

    def baseline(self) -> pd.DataFrame:
        """Networks with BN and without noise. Raises CannotTestError without any."""
        return _require(self.where(norm="batch", noise="none"), "member without noise (members.none=true)")

    def rate(self, *placements: str) -> float:
        """The drop rate at which single effects are tested: of those at all placements, the one closest to 0.5."""
        shared = set.intersection(*(set(self.dropout(placement)["strength"]) for placement in placements))
        if not shared:
            raise CannotTestError(f"no drop rate that {' and '.join(placements)} share", MAIN_STUDY)
        return min(sorted(shared), key=lambda rate: abs(rate - REFERENCE_RATE))


def evidence(study: Study) -> Evidence:
    """Finished members and layers; of several learning rates the one that the validation split chose."""
    finished = study.finished()
    varied = [name for name in RECIPE if name in finished.members and finished.members[name].nunique() > 1]
    network = [*NETWORK, *varied, "width"]
    keys = [*network, *KIND, "seed"]
    members = finished.members.reindex(columns=[*dict.fromkeys([*finished.members, *ERRORS])])
    twins = members.loc[members["noise"] == "none", [*network, "seed", "test_error"]]
    members = members.merge(
        twins.rename(columns={"test_error": "twin_error"}), how="left", on=[*network, "seed"]
    )
    layers = finished.layers
    if is_tuned(study):
        network.remove(TUNED)
        members = _at_best_rate(members, network)
        layers = layers.merge(members[keys], on=keys)
    magnitude = shift_magnitude(layers["shift_ratio"]).replace(np.inf, np.nan)  # infinite: the layer is dead
    shift = layers.assign(shift=magnitude).groupby(keys, dropna=False)["shift"].mean()
    return Evidence(members.merge(shift, how="left", on=keys), layers, network)


def is_tuned(study: Study) -> bool:
    """Whether the study varies the learning rate and has a validation split to choose it by."""
    members = study.members
    has_validation = "validation_error" in members and members["validation_error"].notna().any()
    return bool(has_validation and TUNED in members and members[TUNED].nunique() > 1)


def _at_best_rate(members: pd.DataFrame, network: list[str]) -> pd.DataFrame:
    """Members at the learning rate with the least validation error, mean over seeds, for each kind of noise."""
    kind = [*network, *KIND]
    mean = members.groupby([*kind, TUNED], dropna=False)["validation_error"].mean().reset_index()
    best = mean.loc[mean.groupby(kind, dropna=False)["validation_error"].idxmin().dropna()]
    return members.merge(best[[*kind, TUNED]], on=[*kind, TUNED])


def paired(
    first: pd.DataFrame, second: pd.DataFrame, value: str, on: list[str], value_of_second: str | None = None
) -> Contrast:
    """Mean of first - second between members that share the columns `on` and the seed, Student's t over seeds.

    Args:
        first: members.
        second: members, at most one for each row of `on` and seed.
        value: the column of both.
        on: what the two must share besides the seed, such as the network and the strength.
        value_of_second: another column, for the second.

    Returns:
        The average over all settings that every seed has (a seed that lacks more than half of them is left out
        first, so that a network that diverged does not tilt the mean).

    Raises:
        CannotTestError: no two members match, or they are of one seed.
    """
    other = second[[*on, "seed", value_of_second or value]].set_axis([*on, "seed", "_second"], axis=1)
    pairs = first.merge(other, on=[*on, "seed"]).dropna(subset=[value, "_second"])
    if pairs.empty:
        raise CannotTestError(f"no members to compare that have {value_of_second or value}", MAIN_STUDY)
    settings = [column for column in [*NETWORK, *RECIPE, "width", *KIND] if column in pairs]
    pairs["_difference"] = pairs[value] - pairs["_second"]
    per_seed, used = balanced(pairs, "_difference", settings)
    return Contrast(_enough_seeds(mean_estimate(per_seed)), 2 * used)


def between_groups(first: pd.DataFrame, second: pd.DataFrame, value: str, stratum: list[str]) -> Contrast:
    """Mean over strata of mean(first) - mean(second) for members that share nothing, such as two widths; Welch.

    Within a group and stratum all settings are averaged within the seed, as in `paired`.
    """
    groups = [dict(list(table.groupby(_name(table, stratum)))) for table in (first, second)]
    strata, used = [], 0
    for key in groups[0].keys() & groups[1].keys():
        (here, rows), (there, other_rows) = (balanced(group[key], value, KIND) for group in groups)
        if len(here) and len(there):
            strata.append((here, there))
            used += rows + other_rows
    if not strata:
        raise CannotTestError(f"no two groups of members to compare that have {value}", MAIN_STUDY)
    return Contrast(_enough_seeds(independent_difference(strata)), used)


def over_groups(
    members: pd.DataFrame, statistic: Callable[[pd.DataFrame], float], by: list[str], lacking: CannotTestError
) -> Contrast:
    """Mean over groups of a number computed from all members of one seed in the group, such as a correlation.

    Args:
        members: what `statistic` gets, a table for each group and seed.
        statistic: from a table to a number; NaN where it has none.
        by: the columns that name a group.
        lacking: raised where no group has such a number.
    """
    keys = [*by, "seed"]
    rows = [
        [*(key if isinstance(key, tuple) else (key,)), statistic(group)]
        for key, group in members.groupby(keys, dropna=False)
    ]
    table = pd.DataFrame(rows, columns=[*keys, "_value"]).dropna(subset=["_value"])
    if table.empty:
        raise lacking
    per_seed, _ = balanced(table, "_value", by)
    return Contrast(_enough_seeds(mean_estimate(per_seed)), len(members))


def balanced(table: pd.DataFrame, value: str, settings: list[str]) -> tuple[pd.Series, int]:
    """Mean of `value` per seed over the settings that every seed has, and how many rows that took.

    A seed that lacks more than half of the settings is left out first.
    """
    known = table.dropna(subset=[value])
    wide = known.assign(_setting=_name(known, settings)).pivot(index="seed", columns="_setting", values=value)
    wide = wide[wide.notna().mean(axis=1) >= 0.5]
    wide = wide.loc[:, wide.notna().all()]
    return (wide.mean(axis=1), wide.size) if wide.size else (pd.Series(dtype=float), 0)


def _name(table: pd.DataFrame, columns: list[str]) -> pd.Series:
    """One word for each combination of values; unlike pandas' own grouping it keeps empty ones."""
    return pd.Series(
        [" ".join(map(str, row)) for row in table[columns].to_numpy()], table.index, dtype=object
    )


def _require(found: pd.DataFrame, what: str) -> pd.DataFrame:
    if found.empty:
        raise CannotTestError(f"no finished {what} in a network with BN", MAIN_STUDY)
    return found


def _enough_seeds(estimate: Estimate) -> Estimate:
    if estimate.n < 2:
        raise CannotTestError(f"{estimate.n} seed: an interval needs two, and five to be narrow", MORE_SEEDS)
    return estimate
