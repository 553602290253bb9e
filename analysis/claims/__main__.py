"""Test the paper's claims on a study: `python -m analysis.claims outputs/variance_shift`.

Prints the verdicts and writes them to report/claims.csv inside the study.
"""

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap

from rich.console import Console
from rich.text import Text

from ..command import PACKAGE, check_paths, exit_status
from ..files import written_together
from ..origins import notes, typed_command
from ..tables import Study, StudyError, read_study
from . import CLAIMS, RULE, Verdict, Word, verdict_table, verdicts
from .evidence import is_tuned
from .ledger import OWN_COMMAND
from .verdict import Decision

WIDTH = 80  # columns of a terminal
COLOUR = {
    Word.SUPPORTED: "green",
    Word.PARTLY: "green",
    Word.REFUTED: "red",
    Word.MIXED: "yellow",
}
MARK = {Word.SUPPORTED: "✓", Word.REFUTED: "✗", Word.UNDECIDED: "?"}


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
    parser.add_argument("--all", dest="every", action="store_true", help="print every number of each claim")
    options = parser.parse_args(arguments)
    out = options.out or options.study / "report"
    check_paths(options.study, out)
    study = read_study(options.study)
    found = verdicts(study, typed_command(options.study) or OWN_COMMAND)
    with written_together(out) as files:
        files["claims.csv"] = verdict_table(found).to_csv(index=False).encode()
    for note in notes(options.study):
        print(f"claims: {note}", file=sys.stderr)
    print_verdicts(study, found, options.every)
    again = shlex.join(["python", "-m", f"{PACKAGE}.claims", str(options.study), "--all"])
    report = shlex.join(["python", "-m", f"{PACKAGE}.report", str(options.study)])
    print("" if options.every else f"every number:  {again}\n", end="")
    print(f"with figures:  {report}")
    print(f"claims: {out / 'claims.csv'}")
    return 0


def print_verdicts(study: Study, found: list[Verdict], every: bool) -> None:
    """What became of the claims in a line, then each with its verdict, then what would decide more."""
    console = Console(highlight=False, soft_wrap=True)
    with console.capture() as text:  # a reader that leaves is for exit_status, not for the console
        for line in wrap(headline(study, found), WIDTH):
            console.print(Text(line, "bold"))
        for number, verdict in enumerate(found):
            if number in (0, len(CLAIMS)):
                console.print(Text("\nQuestions of ours\n" if number else "", "bold"))
            for line in verdict_lines(verdict, every):
                console.print(line)
        console.print()
        for line in open_lines(found):
            console.print(Text(line))
        console.print()
        notes = (
            f"{RULE} In brackets 95 % intervals, each number alone; claims.csv has those that hold together."
        )
        if is_tuned(study):
            notes += " Each kind of noise counts at the learning rate with the least validation error."
        for line in wrap(notes, WIDTH):
            console.print(Text(line, "dim"))
    print(text.get(), end="")


def headline(study: Study, found: list[Verdict]) -> str:
    """What became of the paper's claims, in a line."""
    count = Counter(verdict.word for verdict in found[: len(CLAIMS)])
    counted = ", ".join(f"{count[word]} {word}" for word in Word if count[word])
    return f"{study.name}: of the paper's {len(CLAIMS)} claims {counted}."


def verdict_lines(verdict: Verdict, every: bool) -> Iterator[Text]:
    """A claim with its verdict, and below it the number it hangs on, or every number; then what is missing."""
    name = Text.assemble(f"{verdict.claim.name:<5}", (f"{verdict.word:<15}", COLOUR.get(verdict.word, "")))
    for line in wrap(verdict.claim.statement, WIDTH - len(name)):
        yield Text.assemble(name, line)
        name = Text(" " * len(name))
    shown = verdict.decisions if every else [verdict.headline] * bool(verdict.headline)
    told = [f"{MARK[decision.word]} {in_words(decision, every)}" for decision in shown if decision]
    if verdict.tally and not every:
        told.append(f"  {verdict.tally}")
    if verdict.lack:
        told.append(f"  {verdict.lack}")
    for line in told:
        yield from (
            Text.assemble(name, part) for part in wrap(line, WIDTH - len(name), subsequent_indent="  ")
        )


def in_words(decision: Decision, every: bool) -> str:
    """A number with its interval and its prediction; with every number also what such a study can see."""
    part, estimate = decision.part, decision.part.estimate
    answer = f": {decision.answer}" * (decision.answer != decision.word)
    said = f"{decision.effect} {part.name} (predicted {part.prediction}{answer})"
    if not every:
        return said
    exact = f" of at least {decision.least_seeds} for this exact test" * (decision.least_seeds > 2)
    return (
        f"{said}; {estimate.n} seeds{exact}, {part.contrast.members} members, detectable "
        f"{decision.minimum_detectable:.2g}"
    )


def open_lines(found: list[Verdict]) -> Iterator[str]:
    """Which command would decide what is open, each with the claims that it serves."""
    serves: dict[str, list[str]] = {}
    for verdict in found:
        for command in verdict.commands:
            serves.setdefault(command, []).append(verdict.claim.name)
    for command, claims in serves.items():
        yield from wrap(f"To decide {', '.join(claims)}:", WIDTH)
        yield f"  {command}"


if __name__ == "__main__":
    sys.exit(main())
