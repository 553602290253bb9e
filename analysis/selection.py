"""Members of a study selected as on a command line: COLUMN=VALUE, several values with a comma between them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .schema import IDENTITY, RECIPE, TEXT, kind_of
from .tables import Study

OF_NOISE = (
    "placement",
    "noise",
    "strength",
    "noise_variance",
)  # in which a member without noise is like none


class SelectionError(ValueError):
    """A selection that says nothing about these members; the message is one line."""


def selected(study: Study, selection: Sequence[str]) -> Study:
    """The part of a study whose members are as every COLUMN=VALUE[,VALUE ...] says.

    Members without noise stay whatever is asked of the noise: they are what the others are compared with.

    Raises SelectionError for a column that tells no members apart, a value that none has, where nobody is left.
    """
    members = study.members
    for argument in selection:
        members = members[_agrees(members, study.members, argument)]
        if members.empty:
            raise SelectionError(f"{' '.join(selection)}: {study.name} holds no such member")
    return study.part(members)


def _agrees(members: pd.DataFrame, all_members: pd.DataFrame, argument: str) -> pd.Series:
    """Which members an argument selects."""
    column, _, text = argument.partition("=")
    allowed = [name for name in (*IDENTITY, *RECIPE) if name in all_members]
    if column not in allowed or not text:
        raise SelectionError(f"{argument}: allowed is COLUMN=VALUE, COLUMN one of {', '.join(allowed)}")
    found = pd.Series(column in OF_NOISE and members["noise"] == "none", members.index)
    for word in text.split(","):
        is_it = _equal(all_members[column], word)
        if not is_it.any():
            there = sorted(all_members[column].dropna().unique().tolist())
            values = ", ".join(value if isinstance(value, str) else f"{value:g}" for value in there)
            raise SelectionError(f"{argument}: no member has {column} {word}; allowed: {values}")
        found |= is_it[members.index]
    return found


def _equal(values: pd.Series, word: str) -> pd.Series:
    if kind_of(str(values.name)) == TEXT:
        return values == word
    try:
        return pd.Series(np.isclose(values.astype(float), float(word)), values.index)
    except ValueError:
        return pd.Series(data=False, index=values.index)
