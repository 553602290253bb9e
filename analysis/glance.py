"""A study at a glance, as HTML: what a notebook shows of it."""

from html import escape

import pandas as pd

from .schema import NETWORK

# Of the table, by its heading: the column that each is the mean of.
OF_LAYERS = {"shift ratio, all layers": "shift_ratio"}
OF_MEMBERS = {"test error %": "test_error", "adjusted %": "test_error_adjusted"}


def glance(name: str, members: pd.DataFrame, finished: pd.DataFrame, layers: pd.DataFrame) -> str:
    """A line that says what is there, and a table of means for each placement and noise.

    Args:
        name: of the study.
        members: its members.csv.
        finished: those of them that neither diverged nor failed; the others are counted, and in no mean.
        layers: the rows of layers.csv of the finished ones.

    Returns:
        HTML, everything escaped. Where the study varies data set, model, depth or normaliser, each has rows of its
        own. A mean of nothing is empty.
    """
    keys = [*(key for key in NETWORK if members[key].nunique(dropna=False) > 1), "placement", "noise"]
    grouped = members.groupby(keys, sort=False, dropna=False)
    table = grouped.size().rename("members").to_frame()
    table["strength"] = grouped["strength"].agg(_range)
    table["finished"] = finished.groupby(keys, dropna=False).size().reindex(table.index, fill_value=0)
    for rows, columns in ((layers, OF_LAYERS), (finished, OF_MEMBERS)):
        for heading, column in columns.items():
            table[heading] = rows.groupby(keys, dropna=False)[column].mean()
    counts = ", ".join(f"{count} {status}" for status, count in members["status"].value_counts().items())
    seeds, widths = members["seed"].nunique(), sorted(members["width"].dropna().unique())
    said = f"{len(members)} members ({counts}), {_plural(seeds, 'seed')}, width {', '.join(map(str, widths))}"
    shown = table.reset_index().to_html(
        index=False, na_rep="", escape=True, border=0, float_format="{:.3f}".format
    )
    return f"<p><b>{escape(name)}</b>: {escape(said)}</p>{shown}"


def _range(strengths: pd.Series) -> str:
    low, high = strengths.min(), strengths.max()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count != 1)
