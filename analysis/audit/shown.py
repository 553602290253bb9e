"""The audit's table as a person reads it: as text, and as HTML in a notebook, alarms first."""

from html import escape

import pandas as pd

from .explain import diagnosis

READ = {
    "layer_name": "layer",
    "alarm": "alarm",
    "shift_ratio": "shift",
    "interval": "95 % interval",
    "mean_shift": "mean",
    "noise_ratio": "noise",
    "branch_ratio": "by mode",
    "lag_ratio": "lag",
    "upstream_ratio": "upstream",
    "data_ratio": "data",
    "local_ratio": "local",
    "local_ratio_exact": "local, exact",
    "shift_ratio_predicted": "closure",
    "own_noise": "its own noise",
    "keeps": "keeps mode",
    "channels": "channels",
    "moving_var": "stored variance",
    "train_var": "train",
    "test_var": "eval",
}
ROWS = 20  # that a notebook shows at once


def short_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return what a person reads of the table from `audit`, as text."""
    ends = zip(table["shift_ratio_low"], table["shift_ratio_high"], strict=True)
    intervals = ["not measured" if pd.isna(low) else f"{low:.3g} to {high:.3g}" for low, high in ends]
    columns = table.assign(interval=intervals)[list(READ)]
    if len(columns):
        columns = columns.dropna(axis=1, how="all")
    for column in columns.select_dtypes("float"):
        columns[column] = columns[column].map(lambda value: "" if pd.isna(value) else f"{value:.3g}")
    return columns.rename(columns=READ)


class AuditTable(pd.DataFrame):
    """What `audit` returns: a DataFrame, which a notebook shows with its verdict and its alarms first.

    What is selected of it, or computed from it, is a plain DataFrame.
    """

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def _repr_html_(self) -> str:
        verdict, *rest = diagnosis(self).splitlines()
        rows = short_table(self)
        is_alarmed = rows["alarm"] != ""
        rows = pd.concat([rows[is_alarmed], rows[~is_alarmed]])  # the audit's order within both
        more = f"<p>{len(rows) - ROWS} more rows</p>" if len(rows) > ROWS else ""
        shown = rows.head(ROWS).to_html(index=False, border=0) if len(rows) else ""
        return (
            f"<p><b>{escape(verdict)}</b></p><div style='overflow-x:auto'>{shown}</div>{more}"
            f"<details><summary>diagnosis</summary><pre>{escape(chr(10).join(rest).strip())}</pre></details>"
        )
