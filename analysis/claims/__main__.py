"""Test the paper's claims on a study: `python -m analysis.claims outputs/variance_shift`.

Prints the verdicts and writes them to report/claims.csv inside the study.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..command import PACKAGE, check_paths, exit_status
from ..files import written_together
from ..origins import notes, typed_command
from ..tables import StudyError, read_study
from . import CLAIMS, RULE, Verdict, Word, verdict_table, verdicts
from .evidence import is_tuned
from .ledger import OWN_COMMAND
from .verdict import Decision

COLOUR = {
    Word.SUPPORTED: "green",
    Word.PARTLY: "green",
    Word.REFUTED: "red",
    Word.MIXED: "yellow",
}


def main(arguments: list[str] | None = None) -> int:
    """Print and write the verdicts; return the exit status, 2 if there is no study to test them on."""
    return exit_status("claims", lambda: judge_study(arguments), StudyError)


def judge_study(arguments: list[str] | None) -> int:
    """Test the claims on the study that the arguments name; return the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {PACKAGE}.claims", description="Test the paper's claims on a study."
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
    found = verdicts(study, typed_command(options.study) or OWN_COMMAND)
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
    for number, verdict in enumerate(found):
        if number == len(CLAIMS):
            table.add_row("", "", Text("\nQuestions of ours", "bold"))
        word = Text(verdict.word, COLOUR.get(verdict.word, ""))
        table.add_row(verdict.claim.name, word, verdict.claim.statement)
        for decision in verdict.decisions:
            table.add_row("", "", Text(f"- {in_words(decision)}"))
        if verdict.missing:
            lacking = "; ".join(verdict.missing)
            table.add_row("", "", Text(f"- {': '.join([lacking, *verdict.commands])}", "dim"))
    console.print(table)
    console.print(
        f"{RULE} Intervals: 95 %, each number alone; claims.csv has those that hold together for a claim.",
        highlight=False,
    )


def in_words(decision: Decision) -> str:
    """A number, its interval, what was decided, and what such a study can see."""
    part, estimate = decision.part, decision.part.estimate
    unit = f" {part.unit}" * bool(part.unit)
    exact = f" of at least {decision.least_seeds} for this exact test" * (decision.least_seeds > 2)
    return (
        f"{part.name}: {estimate.value:+.3f} [{decision.low:+.3f}, {decision.high:+.3f}]{unit} (predicted "
        f"{part.prediction}): {decision.answer}; {estimate.n} seeds{exact}, {part.contrast.members} members, "
        f"detectable {decision.minimum_detectable:.2g}"
    )


if __name__ == "__main__":
    sys.exit(main())
