"""Findings of several studies, claim by claim: `python -m analysis.findings outputs/*`.

Writes analysis/FINDINGS.md from the studies' tables alone, so that it can be written again.
"""

import argparse
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from analysis.claims import CLAIMS, Verdict, Word, verdicts
from analysis.command import check_paths, exit_status
from analysis.error_shares import QUANTITIES, error_shares
from analysis.files import written_together
from analysis.origins import notes
from analysis.render import TEMPLATES, render
from analysis.tables import Study, StudyError, read_environment, read_study

FINDINGS = Path(__file__).parent / "FINDINGS.md"
CELLS = ["mean", "low", "high", "share", "share_low", "share_high"]
MADE_UP = ["gaussian"]  # data sets that are drawn, not collected


@dataclass(frozen=True)
class Record:
    """One study: its tables, its verdicts by claim, and the command that made it."""

    study: Study
    verdicts: dict[str, Verdict]
    command: str
    commit: str

    @property
    def networks(self) -> str:
        """The networks in words: data sets and models."""
        members = self.study.members
        return ", ".join(
            f"{data} {model}" for data, model in members[["data", "model"]].drop_duplicates().to_numpy()
        )

    @property
    def seconds(self) -> float:
        """Computing time of all members together; 0 where the study did not keep it."""
        return float(self.study.members.get("seconds", pd.Series(dtype=float)).sum())

    def error_shares(self) -> list[dict]:
        """The result of `analysis.error_shares` for dropout, mean over networks; nothing without transplants."""
        members = self.study.finished().members
        members = members[(members["norm"] == "batch") & members["noise"].isin(["none", "dropout"])]
        if members.get("test_error_transplanted", pd.Series(dtype=float)).notna().sum() == 0:
            return []
        if "lr" in members and members["lr"].nunique() > 1:  # bad ones on purpose would count too
            return []
        table = error_shares(members, by=[])
        parts = table.pivot(index=["placement", "strength"], columns="quantity")
        return [
            {"placement": placement, "rate": rate}
            | {what: [parts.loc[(placement, rate), (cell, what)] for cell in CELLS] for what in QUANTITIES}
            for placement, rate in parts.index
        ]

    def law_errors(self) -> list[tuple[str, str, float, int]]:
        """Placement, formula, median distance of the measured local shift from it (percent), and BN layers."""
        layers = self.study.finished().layers
        rows = []
        for placement in ("before_bn", "before_weight"):
            for column, formula in (
                ("local_ratio_exact", "the exact law"),
                ("ratio_paper", "the paper's Eq 8 or 12"),
            ):
                of_placement = layers[layers["placement"] == placement].dropna(subset=["local_ratio", column])
                if len(of_placement):
                    distance = (of_placement["local_ratio"] / of_placement[column] - 1).abs().median()
                    rows.append((placement, formula, 100 * float(distance), len(of_placement)))
        return rows


def main(arguments: list[str] | None = None) -> int:
    """Write the findings; return the exit status, 2 if there is nothing to write about."""
    return exit_status("findings", lambda: write_findings(arguments), StudyError)


def write_findings(arguments: list[str] | None) -> int:
    """Write the findings of the studies that the arguments name; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.findings", description="Write down what studies found, claim by claim."
    )
    parser.add_argument(
        "studies", type=Path, nargs="+", help="folders of studies, or of single jobs: outputs/*"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", default=FINDINGS, help="where to write (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    check_paths(*options.studies, options.out)
    records = [record for folder in options.studies if (record := read_record(folder))]
    if not records:
        raise StudyError("none of these studies is of real data with finished members")
    text = findings(records)
    with written_together(options.out.parent) as files:
        files[options.out.name] = text.encode()
    print(f"findings: {options.out}")
    return 0


def read_record(folder: Path) -> Record | None:
    """Read a study and test the claims on it; None, and a line on stderr, where the data set is made up.

    Raises StudyError if the folder holds no readable study.
    """
    study = read_study(folder)
    if folder.resolve().parent.name == "jobs":  # one job of a study that has not finished
        name = f"{folder.resolve().parents[1].name} ({', '.join(study.members['model'].unique())} only)"
        study = replace(study, name=name)
    if study.members["data"].isin(MADE_UP).any():
        print(f"findings: {folder}: left out, its data are drawn from a distribution", file=sys.stderr)
        return None
    for note in notes(folder):
        print(f"findings: {folder}: {note}", file=sys.stderr)
    origin = read_environment(folder)
    by_claim = {verdict.claim.name: verdict for verdict in verdicts(study)}
    return Record(
        study, by_claim, _command(origin.get("command", [])), str(origin.get("git_commit") or "")[:9]
    )


def findings(records: list[Record]) -> str:
    """The whole text, Markdown."""
    tested = [(claim, [(record, record.verdicts[claim.name]) for record in records]) for claim in CLAIMS]
    return render(
        TEMPLATES / "findings.md.j2",
        records=records,
        tested=tested,
        against=[(claim, names) for claim, found in tested if (names := _refuting(found))],
        Word=Word,
    )


def _refuting(found: list[tuple[Record, Verdict]]) -> list[str]:
    """The studies that refute the claim, or one of its parts."""
    return [
        record.study.name
        for record, verdict in found
        if any(decision.word is Word.REFUTED and not decision.part.control for decision in verdict.decisions)
    ]


def _command(words: list[str]) -> str:
    """The command as somebody else would type it: without this machine's interpreter and folders."""
    if "-m" not in words:
        return ""
    local = ("output=", "processes=")  # what the numbers do not depend on
    typed = ["python", *(word for word in words[words.index("-m") :] if not word.startswith(local))]
    typed = [re.sub(r"=/.*/([^/]+)$", r"=PATH/\1", word) for word in typed]
    return " ".join(f"'{word}'" if re.search(r"[\[\], ]", word) else word for word in typed)


if __name__ == "__main__":
    sys.exit(main())
