"""What claims are tested on: finished members, their shift and what interventions cost; contrasts by seed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.api.typing import DataFrameGroupBy

from ..interventions import effects
from ..schema import IDENTITY, NETWORK, RECIPE
from ..select import KIND
from ..stats import independent_difference, seed_mean
from ..tables import Study
from .verdict import CannotTestError, Contrast

REFERENCE_RATE = 0.5  # which the paper discusses; nothing measured chooses it
TUNED = "lr"  # chosen per kind of noise where the study varies it and has a validation split
ERRORS = [
    "test_error",
    "test_error_adjusted",
    "train_error_train_mode",
    "train_error_eval_mode",
    "validation_error",
]
EFFECTS = [
    "stored_net",
    "total",
    "means",
    "variances",
]  # of `analysis.interventions`, those that claims speak of
MORE_SEEDS = "the study's own command with study=NAME 'members.seed=[0,1,2,3,4]'"
MAIN_STUDY = "python -m experiments.run +sweep=variance_shift"


@dataclass(frozen=True)
class Evidence:
    """The tables as claims read them.

    Attributes:
        members: finished members with `ERRORS` and `EFFECTS`, and with `shift`: the mean over BN layers of -log r,
            r = Var_test / Var_moving. It is 0 where nothing shifts, above 0 where BN divides by too much; signed,
            so that its noise averages out; empty without BN.
        layers: their BN layers.
        network: the columns that tell networks apart in this study, width among them. What a contrast averages
            over within a seed; seeds are what it is repeated over.
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

    def rate(self, placement: str) -> float:
        """The drop rate at which single effects are tested: the one closest to 0.5."""
        return min(
            sorted(set(self.dropout(placement)["strength"])), key=lambda rate: abs(rate - REFERENCE_RATE)
        )

    def mean(self, table: pd.DataFrame, value: str, members: int = 1) -> Contrast:
        """Mean of a column, Student's t over seeds, all settings weighing alike in every seed.

        Args:
            table: a row a seed and setting: the columns `network` and those of `KIND` that it has.
            value: the column; rows where it is empty do not count.
            members: how many networks are behind a row.

        Raises:
            CannotTestError: there is no value, or there are some of one seed only.
        """
        settings = [name for name in (*self.network, *KIND) if name in table]
        per_seed, used = balanced(table, value, settings)
        if not used:
            raise CannotTestError(f"no members to compare that have {value}", MAIN_STUDY)
        return Contrast(seed_mean(_enough(per_seed)), members * used)

    def paired(
        self, first: pd.DataFrame, second: pd.DataFrame, value: str, on: Sequence[str] = ()
    ) -> Contrast:
        """Mean of first - second between members of one network and seed that share the columns `on`."""
        return self.mean(self.differences(first, second, value, on), value, members=2)

    def differences(
        self, first: pd.DataFrame, second: pd.DataFrame, value: str, on: Sequence[str] = ()
    ) -> pd.DataFrame:
        """`first` with `value` less that of `second`; of members without a partner there are no rows.

        `second` has one member at most for each network, seed and values of `on`.
        """
        keys = [*self.network, *on, "seed"]
        pairs = first.merge(second[[*keys, value]], on=keys, suffixes=("", "_second"), validate="m:1")
        return pairs.assign(**{value: pairs[value] - pairs[f"{value}_second"]})

    def between(self, first: pd.DataFrame, second: pd.DataFrame, value: str, stratum: list[str]) -> Contrast:
        """Mean over strata of mean(first) - mean(second) for members that share nothing, as two widths; Welch."""
        groups = [dict(list(table.groupby(joined(table, stratum)))) for table in (first, second)]
        strata, used = [], 0
        for key in groups[0].keys() & groups[1].keys():
            (here, rows), (there, other_rows) = (balanced(group[key], value, KIND) for group in groups)
            if len(here) and len(there):
                strata.append((_enough(here), _enough(there)))
                used += rows + other_rows
        if not strata:
            raise CannotTestError(f"no two groups of members to compare that have {value}", MAIN_STUDY)
        return Contrast(independent_difference(strata), used)

    def of_each(
        self,
        table: pd.DataFrame,
        statistic: Callable[[DataFrameGroupBy], pd.Series],
        by: list[str],
        lacking: CannotTestError,
    ) -> Contrast:
        """Mean over groups of a number made from all rows of one seed in the group, such as a correlation.

        Args:
            table: members or layers.
            statistic: from the grouped rows to a number of each group in order, NaN where it has none. Of all
                groups at once, for there may be tens of thousands.
            by: the columns that name a group.
            lacking: raised where no group has such a number.
        """
        groups = table.groupby([*by, "seed"], dropna=False)
        numbers = groups.size().index.to_frame(index=False).assign(_value=statistic(groups).to_numpy())
        per_seed, used = balanced(numbers, "_value", by)
        if not used:
            raise lacking
        members = table[[*self.network, *KIND, "seed"]].drop_duplicates()
        return Contrast(seed_mean(_enough(per_seed)), len(members))


def evidence(study: Study) -> Evidence:
    """Finished members and layers; of several learning rates the one that the validation split chose."""
    finished = study.finished()
    varied = [name for name in RECIPE if name in finished.members and finished.members[name].nunique() > 1]
    network = [*NETWORK, *varied, "width"]
    keys = [*network, *KIND, "seed"]
    of_member = [name for name in (*IDENTITY, *RECIPE) if name in finished.members]
    members = finished.members.reindex(columns=[*of_member, *ERRORS])
    cost = effects(finished.members)[[*of_member, *EFFECTS]]
    members = members.merge(cost, how="left", on=of_member)
    layers = finished.layers
    if is_tuned(study):
        network.remove(TUNED)
        members = _at_best_rate(members, network)
        layers = layers.merge(members[keys], on=keys)
    ratio = layers["shift_ratio"].where(layers["shift_ratio"] > 0)  # 0: the layer is dead
    shift = layers.assign(shift=-np.log(ratio)).groupby(keys, dropna=False)["shift"].mean()
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


def balanced(table: pd.DataFrame, value: str, settings: list[str]) -> tuple[pd.Series, int]:
    """Mean of `value` per seed over the settings that every seed has, and how many rows that took.

    A seed that lacks more than half of the settings is left out first, so that a network that diverged does not
    tilt the mean.
    """
    known = table.dropna(subset=[value])
    wide = known.assign(_setting=joined(known, settings)).pivot(
        index="seed", columns="_setting", values=value
    )
    wide = wide[wide.notna().mean(axis=1) >= 0.5]
    wide = wide.loc[:, wide.notna().all()]
    return (wide.mean(axis=1), wide.size) if wide.size else (pd.Series(dtype=float), 0)


def joined(table: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """One word for each combination of values; unlike pandas' own grouping it keeps empty ones, and no columns."""
    rows = table[list(columns)].to_numpy()
    return pd.Series([" ".join(map(str, row)) for row in rows], table.index, dtype=object)


def _require(found: pd.DataFrame, what: str) -> pd.DataFrame:
    if found.empty:
        raise CannotTestError(f"no finished {what} in a network with BN", MAIN_STUDY)
    return found


def _enough(per_seed: pd.Series) -> np.ndarray:
    if len(per_seed) < 2:
        raise CannotTestError(
            f"{len(per_seed)} seed: an interval needs two, and five to be narrow", MORE_SEEDS
        )
    return per_seed.to_numpy(dtype=float)
