"""Test the paper's claims on a study: `python -m analysis.claims outputs/variance_shift`.

Prints the verdicts and writes them to report/claims.csv inside the study.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.claims import Verdict, verdict_table, verdicts
from analysis.claims.evidence import is_tuned
from analysis.claims.verdict import Decision
from analysis.command import check_paths, exit_status
from analysis.files import written_together
from analysis.origins import notes
from analysis.tables import StudyError, read_study

COLOUR = {"supported": "green", "refuted": "red", "mixed": "yellow"}


def main(arguments: list[str] | None = None) -> int:
    """Print and write the verdicts; return the exit status, 2 if there is no study to test them on."""
    return exit_status("claims", lambda: judge_study(arguments), StudyError)


def judge_study(arguments: list[str] | None) -> int:
    """Test the claims on the study that the arguments name; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.claims", description="Test the paper's claims on a study."
    )
    parser.add_argument("study", type=Path, help="the study's folder, for example outputs/variance_shift")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where claims.csv goes (default: the folder report inside the study)",
    )
    options = parser.parse_args(arguments)
    out = options.out or options.study / "report"
    check_paths(options.study, out)
    study = read_study(options.study)
    found = verdicts(study)
    with written_together(out) as files:
        files["claims.csv"] = verdict_table(found).to_csv(index=False).encode()
    for note in notes(options.study):
        print(f"claims: {note}", file=sys.stderr)
    with (
        console := Console()
    ).capture() as text:  # a reader that leaves is for exit_status, not for the console
        print_verdicts(found, console)
    print(text.get(), end="")
    if is_tuned(study):
        print("Each kind of noise counts at the learning rate with the least validation error.")
    print(f"claims: {out / 'claims.csv'}")
    return 0


def print_verdicts(found: list[Verdict], console: Console) -> None:
    """The claims one below the other, each with its verdict, the numbers behind it, and what is missing."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(max_width=24)
    table.add_column()
    for verdict in found:
        table.add_row(
            verdict.claim.name, Text(verdict.word, COLOUR.get(verdict.word, "")), verdict.claim.statement
        )
        for decision in verdict.decisions:
            table.add_row("", "", Text(f"- {_in_words(decision)}"))
        if verdict.missing:
            table.add_row(
                "", "", Text(f"- {verdict.missing}" + f": {verdict.command}" * bool(verdict.command), "dim")
            )
    console.print(table)
    numbers = sum(len(verdict.decisions) for verdict in found)
    console.print(
        f"{numbers} numbers decided together: the probability of any wrong decision is below 5 % (Holm). "
        "Intervals: 95 %, each number alone; claims.csv has those that hold together.",
        highlight=False,
    )


def _in_words(decision: Decision) -> str:
    part, estimate = decision.part, decision.part.contrast.estimate
    unit = f" {part.unit}" * bool(part.unit)
    return (
        f"{part.name}: {estimate.value:+.3f} [{decision.low:+.3f}, {decision.high:+.3f}]{unit}; {decision.word} "
        f"({estimate.n} seeds, {part.contrast.members} members, detectable {decision.minimum_detectable:.2g})"
    )


if __name__ == "__main__":
    sys.exit(main())
