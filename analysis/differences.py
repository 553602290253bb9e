"""Studies beside each other: the same quantities of each, and their differences with 95 % intervals over seeds.

Networks are compared at equal settings: a column such as the width counts where the studies have values of it in
common. One in which they have nothing in common, such as the depth of a study at depth 3 and of one at depth 10,
is what sets them apart, and all its values count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from .claims.evidence import balanced, joined
from .schema import IDENTITY, NETWORK, RECIPE
from .select import KIND, behind_noise
from .stats import Estimate, independent_difference, mean_interval, seed_mean
from .summary import ORDER
from .tables import Study, StudyError

QUANTITIES = {
    "shift_ratio": "shift ratio, cumulative",
    "local_ratio": "shift ratio, local",
    "test_error": "test error (%)",
    "test_error_adjusted": "adjusted test error (%)",
}
MOST = 6  # studies, whose colours and marks can be told apart
LEAST_SEEDS = 2  # of a pair of studies, for differences within a seed


@dataclass(frozen=True)
class Comparison:
    """What studies have in common.

    Attributes:
        names: the studies; differences are to the first.
        apart: the columns in which they have no value in common, with each study's values in words.
        networks: at how many settings of the other columns they are compared.
        means: of each study; columns study, those of KIND, quantity, mean, low, high, n (seeds).
        differences: a later study minus the first, at the kinds of noise that both have; the same columns, and
            `how`: "paired" where members agree in all that identifies them and share their seed, "same" where
            these are the very same networks, else "Welch".
    """

    names: list[str]
    apart: dict[str, list[str]]
    networks: int
    means: pd.DataFrame
    differences: pd.DataFrame


def compare(studies: Sequence[Study]) -> Comparison:
    """Set studies with different names beside each other. Raises StudyError where they have nothing in common."""
    tables = [results(study) for study in studies]
    columns = [name for name in (*NETWORK, "width", *RECIPE) if all(name in table for table in tables)]
    apart = [name for name in columns if not set.intersection(*(set(table[name]) for table in tables))]
    equal = [name for name in columns if name not in apart]
    tables = [table.assign(setting=joined(table, equal)) for table in tables]
    shared = set.intersection(*(set(table["setting"]) for table in tables))
    tables = [table[table["setting"].isin(shared)] for table in tables]
    pairs = not {*apart} & {*IDENTITY}
    differences = [
        difference | {"study": study.name}
        for study, table in zip(studies[1:], tables[1:], strict=True)
        for difference in _differences(tables[0], table, pairs)
    ]
    if not differences:
        names = " and ".join(study.name for study in studies)
        raise StudyError(f"{names}: nothing in common: no kind of noise in networks of the same settings")
    return Comparison(
        [study.name for study in studies],
        {name: [_listed(results(study)[name]) for study in studies] for name in apart},
        len(shared),
        _in_order([row for pair in zip(studies, tables, strict=True) for row in _means(*pair)]),
        _in_order(differences),
    )


def results(study: Study) -> pd.DataFrame:
    """A row per finished member: what identifies it, its errors, and its ratios, means over its BN layers.

    Of layers those count that have noise of their own (all, where none has any).
    """
    finished = study.finished()
    identity = [name for name in (*IDENTITY, *RECIPE) if name in finished.members and name in finished.layers]
    ratios = (
        behind_noise(finished.layers).groupby(identity, dropna=False)[["shift_ratio", "local_ratio"]].mean()
    )
    of_member = [name for name in (*IDENTITY, *RECIPE) if name in finished.members]
    members = finished.members[[*of_member, "test_error", "test_error_adjusted"]]
    return members.merge(ratios.reset_index(), how="left", on=identity)


def _means(study: Study, table: pd.DataFrame) -> list[dict]:
    rows = []
    for kind, group in table.groupby(KIND):
        for quantity in QUANTITIES:
            interval = mean_interval(group.groupby("seed")[quantity].mean())
            if interval.n:
                rows.append(_row(kind, quantity) | {"study": study.name} | interval._asdict())
    return rows


def _differences(first: pd.DataFrame, second: pd.DataFrame, pairs: bool) -> list[dict]:
    """second - first for every kind of noise and quantity that both have."""
    rows = []
    groups = [dict(list(table.groupby(KIND))) for table in (first, second)]
    for kind in groups[0].keys() & groups[1].keys():
        here, there = groups[0][kind], groups[1][kind]
        same = pairs and _are_the_same(here, there)
        for quantity in QUANTITIES:
            estimate, how = _difference(here, there, quantity, pairs, same)
            if estimate:
                low, high = estimate.interval()
                found = {"mean": estimate.value, "low": low, "high": high, "n": estimate.n, "how": how}
                rows.append(_row(kind, quantity) | found)
    return rows


def _difference(
    first: pd.DataFrame, second: pd.DataFrame, quantity: str, pairs: bool, same: bool
) -> tuple[Estimate | None, str]:
    """The mean of second - first over settings, and how it was found; None where either has no value."""
    both = [table.groupby(["setting", "seed"])[quantity].mean().dropna() for table in (first, second)]
    paired = (both[1] - both[0]).dropna().rename(quantity).reset_index()
    if same:
        n = paired["seed"].nunique()
        return (Estimate(0.0, 0.0, n - 1, n), "same") if n else (None, "")
    if pairs and paired["seed"].nunique() >= LEAST_SEEDS:
        return seed_mean(balanced(paired, quantity, ["setting"])[0]), "paired"
    by_setting = [dict(list(values.groupby(level="setting"))) for values in both]
    strata = [
        (by_setting[1][setting].to_numpy(), by_setting[0][setting].to_numpy())
        for setting in by_setting[0]
        if setting in by_setting[1]
    ]
    return (independent_difference(strata), "Welch") if strata else (None, "")


def _are_the_same(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    """Whether all members that two tables share have the same results: these are the very same networks."""
    both = first.merge(second, on=["setting", "seed"])
    return len(both) > 0 and all(both[f"{name}_x"].equals(both[f"{name}_y"]) for name in QUANTITIES)


def _row(kind: tuple, quantity: str) -> dict:
    return dict(zip(KIND, kind, strict=True)) | {"quantity": quantity}


def _in_order(rows: list[dict]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    in_order = lambda column: column.map(ORDER) if column.name in KIND[:2] else column  # noqa: E731
    return table.sort_values(KIND, key=in_order, kind="stable", ignore_index=True)


def _listed(values: pd.Series) -> str:
    return ", ".join(
        f"{value:g}" if isinstance(value, float) else str(value) for value in sorted(set(values))
    )
