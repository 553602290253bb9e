"""The study of statements: which are tested already, testing the others, and its table modes.csv."""

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from analysis import schema
from experiments.checks import ConfigError
from experiments.modes import STATEMENTS
from experiments.modes.finding import CONFIRMED, FAILED, NEEDS_CARE, REFUTED, VERDICTS, readable
from experiments.modes.statement import Statement
from experiments.study.environment import write_environment
from experiments.study.tables import read_table, write_table

TABLE = "modes.csv"
STYLE = {CONFIRMED: "green", REFUTED: "red", NEEDS_CARE: "yellow", FAILED: "red reverse"}


def tested_statements(folder: Path) -> dict[int, dict[str, str]]:
    """Return the rows of the study in `folder` that need not be made again, by the number of their statement.

    A row counts while its statement still reads the same, unless its experiment failed. Raises ConfigError for a
    table of another torch, which may answer otherwise, and for a file that is no such table.
    """
    path = folder / TABLE
    if not path.exists():
        return {}
    try:
        rows = {int(row["number"]): row for row in read_table(path)}
        torches = sorted({row["torch"] for row in rows.values()} - {torch.__version__})
        tested = {
            statement.number: rows[statement.number]
            for statement in STATEMENTS
            if statement.number in rows and _still_stands(rows[statement.number], statement)
        }
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(
            f"study={folder.name}: {path} is no table of statements ({error}); choose another study=NAME"
        ) from error
    if torches:
        raise ConfigError(
            f"study={folder.name}: {path} was measured with torch {torches[0]}, this is torch "
            f"{torch.__version__}; choose another study=NAME"
        )
    return tested


def _still_stands(row: Mapping[str, str], statement: Statement) -> bool:
    is_whole = row["verdict"] in VERDICTS and isinstance(json.loads(row["measured"]), dict)
    return is_whole and row["statement"] == statement.text


def run_statements(folder: Path) -> int:
    """Test what is not tested yet, print every statement with its verdict, and return the exit status.

    The table is written anew after every statement, whole: who stops in the middle goes on from there.
    """
    rows = tested_statements(folder)
    if rows:
        print(f"{len(rows)} of {len(STATEMENTS)} statements are tested already in {folder}", file=sys.stderr)
    if len(rows) < len(STATEMENTS):
        write_environment(folder)
    for statement in STATEMENTS:
        if statement.number not in rows:
            rows[statement.number] = row_of(statement)
            write_table(
                folder / TABLE, schema.TABLES[TABLE].columns, (rows[number] for number in sorted(rows))
            )
        print_row(rows[statement.number])
    verdicts = [row["verdict"] for row in rows.values()]
    counts = {verdict: verdicts.count(verdict) for verdict in (*VERDICTS, FAILED)}
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count))
    print(f"table: {folder / TABLE}")
    print(f"report: {shlex.join(['python', '-m', 'analysis.modes', str(folder)])}")
    return 1 if counts[FAILED] else 0


def row_of(statement: Statement) -> dict[str, str]:
    """Test a statement; return its row of modes.csv."""
    finding = statement.test()
    return {
        "number": str(statement.number),
        "topic": statement.topic,
        "experiment": statement.name,
        "statement": statement.text,
        "verdict": finding.verdict,
        "explanation": finding.explanation,
        "evidence": readable(finding.measured),
        "measured": json.dumps(finding.measured),
        "torch": torch.__version__,
    }


def print_row(row: Mapping[str, str]) -> None:
    """Print a statement, its verdict and the line that explains it, wrapped to the terminal."""
    line = Table.grid(Column(width=2, justify="right"), Column(width=10), Column(), padding=(0, 1))
    line.add_row(row["number"], Text(row["verdict"], STYLE[row["verdict"]]), Text(row["statement"], "bold"))
    line.add_row("", "", Text(row["explanation"]))
    Console(highlight=False).print(line)
