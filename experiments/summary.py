"""The table that a run prints at its end."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd


def print_table(frame: "pd.DataFrame") -> None:
    """Print a data frame of text and numbers, numbers with four digits."""
    table = Table(*[str(column) for column in frame.columns])
    for row in frame.itertuples(index=False):
        table.add_row(*[_cell(value) for value in row])
    Console().print(table)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return str(value)
