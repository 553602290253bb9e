"""Which rows of a study's tables a question is about, and the sentence that answers when there are none."""

import pandas as pd

from .schema import PLACEMENTS
from .stats import over_seeds
from .theory.noises import FAMILIES

# A kind of noise; network, recipe, width, kind and seed together name a member.
KIND = ["placement", "noise", "strength"]
# Noise variances count as equal up to this relative distance, because sweep files round strengths.
SAME_VARIANCE = 0.01


class CannotAnswerError(Exception):
    """The study cannot answer a question, such as a figure's; the message is the sentence that takes its place."""


def where(table: pd.DataFrame, /, **wanted) -> pd.DataFrame:
    """The rows whose columns have the wanted values."""
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table


def require(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    """`rows` themselves. Without any, raises CannotAnswerError: 'This study has no <what>.'"""
    if rows.empty:
        raise CannotAnswerError(f"This study has no {what}.")
    return rows


def noises_in(table: pd.DataFrame) -> list[str]:
    """The noise families that occur, in the order of the words' table."""
    return [noise for noise in FAMILIES if (table["noise"] == noise).any()]


def placements_in(table: pd.DataFrame) -> list[str]:
    """The placements of noise that occur, in the order of the words' table."""
    return [placement for placement in PLACEMENTS if (table["placement"] == placement).any()]


def values_in(table: pd.DataFrame, column: str) -> list:
    """The values of a column of numbers, each once, in ascending order."""
    return sorted(table[column].unique().tolist())


def of_one_family(layers: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """For a figure that shows one noise family: dropout if the study has it, else the next; and its rows."""
    noisy = require(layers[layers["noise"] != "none"], "BN layer of a finished member with noise")
    noise = noises_in(noisy)[0]
    return noise, where(noisy, noise=noise)


def behind_noise(layers: pd.DataFrame) -> pd.DataFrame:
    """The BN layers that theory speaks about: those with noise of their own.

    Without noise, and under after_last_bn, no BN layer has any, and all of them stay.
    """
    return layers[layers["local_ratio"].notna() | layers["placement"].isin(["none", "after_last_bn"])]


def means(table: pd.DataFrame, quantities: list[str], by: list[str]) -> pd.DataFrame:
    """`over_seeds` of several columns below each other, told apart by the column `quantity`."""
    tables = [over_seeds(table, quantity, by).assign(quantity=quantity) for quantity in quantities]
    return pd.concat(tables, ignore_index=True)


def example_strength(strengths: pd.Series) -> float:
    """The strength at which captions quote numbers: 0.5, which the paper discusses, or else the strongest."""
    return 0.5 if (strengths == 0.5).any() else float(strengths.max())


def is_same_variance(first: float, second: float) -> bool:
    """Whether two noise variances count as equal; see `SAME_VARIANCE`."""
    return abs(first / second - 1) < SAME_VARIANCE
