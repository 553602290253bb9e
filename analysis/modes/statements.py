"""Read modes.csv, a mode study: statements about train() and eval(), what was measured of each, the verdict."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..files import regular_file
from ..schema import TABLES, VERDICTS
from ..tables import StudyError

TABLE = "modes.csv"


@dataclass(frozen=True)
class Statement:
    """A row of modes.csv.

    Attributes:
        number: of the statement, from 1.
        topic: which others it stands with.
        experiment: where to read how it was tested.
        statement: itself.
        verdict: confirmed, refuted, needs care (true, but misleading), or failed (the experiment raised an error).
        explanation: one line that says why.
        evidence: what was measured, to be read.
        measured: the same by name, to be drawn.
        torch: the version that was asked.
    """

    number: int
    topic: str
    experiment: str
    statement: str
    verdict: str
    explanation: str
    evidence: str
    measured: dict[str, Any]
    torch: str


def read_statements(folder: Path) -> list[Statement]:
    """The statements of a mode study, in order.

    Raises StudyError in one line: no such folder or table, one that is unreadable or lacks a column, a value that
    cannot be, or no statement.
    """
    if not folder.is_dir():
        raise StudyError(f"{folder}: no such folder; name a mode study, for example outputs/modes")
    path = folder / TABLE
    try:
        table = pd.read_csv(regular_file(path), dtype=str, keep_default_na=False, encoding="utf-8")
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; is this the folder of a mode study?") from None
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: not a readable CSV table ({str(error).splitlines()[0]})") from None
    columns = list(TABLES[TABLE].required)
    if missing := [column for column in columns if column not in table]:
        raise StudyError(f"{path}: no column {', '.join(missing)}")
    if table.empty:
        raise StudyError(f"{path}: no rows; was any statement tested?")
    return [_statement(path, row) for row in table[columns].to_dict("records")]


def _statement(path: Path, row: dict) -> Statement:
    try:
        number, measured = int(row["number"]), json.loads(row["measured"])
    except (ValueError, RecursionError) as error:
        raise StudyError(f"{path}: statement {row['number']!r} cannot be read ({error})") from None
    if row["verdict"] not in VERDICTS or not isinstance(measured, dict):
        raise StudyError(
            f"{path}: verdict of statement {number} is {row['verdict']!r}; allowed: {', '.join(VERDICTS)}"
        )
    return Statement(**(row | {"number": number, "measured": measured}))
