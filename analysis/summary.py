"""A study in one short table: for each placement, noise and strength the shift, beside the formulas, and its cost.

Needs no plotting, so that a run can print it in the terminal when it ends.
"""

from collections.abc import Sequence

import pandas as pd

from .schema import NETWORK, PLACEMENTS
from .select import KIND, behind_noise
from .stats import over_seeds
from .tables import Study
from .theory.noises import FAMILIES, NO_NOISE

LEAST_SEEDS = 3  # two give an interval 13 standard errors wide on either side, which says nothing
ORDER = {word: place for place, word in enumerate([NO_NOISE.name, *PLACEMENTS, *FAMILIES])}


def summary_table(members: pd.DataFrame, layers: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Means over everything but the kind of noise, with 95 % intervals over seeds.

    Args:
        members: a study's members.csv.
        layers: its layers.csv.
        by: columns that get rows of their own, such as width. Data set, model, depth and normaliser do where the
            study varies them.

    Returns:
        A row per kind of noise, the baseline first: the columns that were kept apart, placement, noise, strength;
        finished and left_out (members); then, all over the same layers, those with noise of their own (all of them
        where none has any): shift_ratio with shift_ratio_low and _high, local_ratio, local_ratio_exact, and
        ratio_paper (Eq 8 or 12; NaN where it says nothing of one of these layers); test_error with _low and _high,
        and test_error_adjusted, in percent. Fewer than three seeds give no interval. Members that did not finish
        count nowhere but in left_out.
    """
    varied = [column for column in NETWORK if column not in by and members[column].nunique() > 1]
    keys = [*varied, *by, *KIND]
    is_ok = members["status"] == "ok"
    counts = members.assign(finished=is_ok, left_out=~is_ok).groupby(keys, dropna=False)
    finished = Study("", members, layers).finished()
    layers = behind_noise(finished.layers)
    said = layers.assign(said=layers["ratio_paper"].notna()).groupby(keys, dropna=False)["said"]
    layers = layers.assign(ratio_paper=layers["ratio_paper"].where(said.transform("all")))
    columns: list[pd.DataFrame | pd.Series] = [
        counts[["finished", "left_out"]].sum(),
        _means(layers, "shift_ratio", keys),
        _means(layers, "local_ratio", keys)[["local_ratio"]],
        _means(layers, "local_ratio_exact", keys)[["local_ratio_exact"]],
        _means(layers, "ratio_paper", keys)[["ratio_paper"]],
        _means(finished.members, "test_error", keys),
        _means(finished.members, "test_error_adjusted", keys)[["test_error_adjusted"]],
    ]
    table = pd.concat(columns, axis=1).reset_index()
    return table.sort_values(keys, key=_in_order, ignore_index=True)


def _means(table: pd.DataFrame, value: str, keys: list[str]) -> pd.DataFrame:
    intervals = over_seeds(table, value, keys).set_index(keys)
    intervals.loc[intervals["n"] < LEAST_SEEDS, ["low", "high"]] = float("nan")
    return intervals.rename(columns={"mean": value, "low": f"{value}_low", "high": f"{value}_high"}).drop(
        columns="n"
    )


def _in_order(column: pd.Series) -> pd.Series:
    return column.map(ORDER) if column.name in ("placement", "noise") else column
