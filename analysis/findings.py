"""Findings of several studies, claim by claim: `python -m analysis.findings outputs/*`.

Writes FINDINGS.md beside the first study from the studies' tables alone, so that it can be written again.
"""

import argparse
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from .claims import CLAIMS, QUESTIONS, RULE, Claim, Verdict, Word, on_paper, verdicts
from .claims.ledger import OWN_COMMAND
from .command import PACKAGE, check_paths, exit_status
from .files import is_tracked, written_together
from .interventions import TOGETHER, effects, harm_or_help
from .origins import notes, sweep_of, typed_command
from .render import TEMPLATES, render
from .schema import IDENTITY, RECIPE
from .select import KIND
from .stats import mean_estimate
from .tables import Study, StudyError, read_environment, read_study

FINDINGS = "FINDINGS.md"
MADE_UP = ["gaussian"]  # data sets that are drawn, not collected
RESULTS = ["test_error", "test_loss"]  # two networks that agree in these and in all their settings are one
SHOWN = ["gap", "total", "means", "variances", "interaction", "twin_variances", "twin_shift", "removal_net"]
FORMULAS = (("local_ratio_exact", "the exact law"), ("ratio_paper", "the paper's Eq 8 or 12"))


@dataclass(frozen=True)
class Record:
    """One study: its tables, its verdicts by claim, and how it was made."""

    study: Study
    verdicts: dict[str, Verdict]
    command: str
    commit: str
    sweep: str

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

    def interventions(self) -> tuple[list[dict], int]:
        """What interventions cost, for each kind of noise whose shift cost is told from 0; and how many are not.

        Mean over networks with BN and their seeds, in points: `SHOWN`, each (mean, low, high), and what wrong
        means and wrong variances do, decided together.
        """
        members = self.study.finished().members
        costs = effects(members[members["norm"] == "batch"]).dropna(subset=["total"])
        if "lr" in costs and costs["lr"].nunique() > 1:  # bad ones on purpose would count too
            return [], 0
        rows, left_out = [], 0
        for kind, group in costs.groupby(KIND):
            estimates = {name: mean_estimate(group.groupby("seed")[name].mean()) for name in SHOWN}
            low, high = estimates["total"].interval()
            if not (low > 0 or high < 0):
                left_out += 1
                continue
            row = {name: (estimate.value, *estimate.interval()) for name, estimate in estimates.items()}
            does = [harm_or_help(*estimates[name].interval(TOGETHER)) for name in ("means", "variances")]
            rows.append({"kind": kind, "does": does} | row)
        return rows, left_out

    def law_errors(self) -> list[tuple]:
        """Placement, formula, median distances of the local ratio r and of 1/r - 1 from it in percent, layers."""
        layers = self.study.finished().layers
        rows = []
        for placement in ("before_bn", "before_weight"):
            for column, formula in FORMULAS:
                known = layers[layers["placement"] == placement].dropna(subset=["local_ratio", column])
                if known.empty:
                    continue
                measured, told = known["local_ratio"], known[column]
                ratio = (measured / told - 1).abs().median()
                added = ((1 / measured - 1) / (1 / told - 1) - 1).abs().median()
                rows.append((placement, formula, 100 * float(ratio), 100 * float(added), len(known)))
        return rows


def main(arguments: list[str] | None = None) -> int:
    """Write the findings; return the exit status, 2 if there is nothing to write about."""
    return exit_status("findings", lambda: write_findings(arguments), StudyError)


def write_findings(arguments: list[str] | None) -> int:
    """Write the findings of the studies that the arguments name; return the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {PACKAGE}.findings", description="Write down what studies found, claim by claim."
    )
    parser.add_argument(
        "studies", type=Path, nargs="+", help="folders of studies, or of single jobs: outputs/*"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=f"where to write (default: {FINDINGS} beside the first study, as in outputs/{FINDINGS})",
    )
    options = parser.parse_args(arguments)
    out = options.out or outputs_of(options.studies[0]) / FINDINGS
    check_paths(*options.studies, out)
    records = [record for folder in options.studies if (record := read_record(folder))]
    if not records:
        raise StudyError("none of these studies is of real data with finished members")
    text = findings(records)
    tracked = is_tracked(out)
    with written_together(out.parent) as files:
        files[out.name] = text.encode()
    if tracked:
        diff = shlex.join(["git", "diff", str(out)])
        print(
            f"findings: {out}: git tracks this file; it is overwritten, {diff} shows by what", file=sys.stderr
        )
    print(f"findings: {out}")
    return 0


def outputs_of(study: Path) -> Path:
    """The folder that a study lies in, or the study of a single job."""
    folder = study.resolve()
    return folder.parents[2] if folder.parent.name == "jobs" else study.parent


def read_record(folder: Path) -> Record | None:
    """Read a study and test the claims on it; None, and a line on stderr, where it has no findings.

    That is where its data set is made up, and for what else lies in `outputs/*`: earlier findings, pages of
    studies beside each other, mode studies. Raises StudyError if the folder holds a study that cannot be read.
    """
    if folder.exists() and not (folder / "members.csv").exists() and not (folder / "jobs").exists():
        print(f"findings: {folder}: left out, no study of networks", file=sys.stderr)
        return None
    study = read_study(folder)
    if folder.resolve().parent.name == "jobs":  # one job of a study that has not finished
        name = f"{folder.resolve().parents[1].name} ({', '.join(study.members['model'].unique())} only)"
        study = replace(study, name=name)
    if study.members["data"].isin(MADE_UP).any():
        print(f"findings: {folder}: left out, its data are drawn from a distribution", file=sys.stderr)
        return None
    for note in notes(folder):
        print(f"findings: {folder}: {note}", file=sys.stderr)
    command = typed_command(folder)
    by_claim = {verdict.claim.name: verdict for verdict in verdicts(study, command or OWN_COMMAND)}
    commit = str(read_environment(folder).get("git_commit") or "")[:9]
    return Record(study, by_claim, command, commit, sweep_of(folder))


def findings(records: list[Record]) -> str:
    """The whole text, Markdown."""
    shared = families([record.study for record in records])
    rows = [
        (claim, meant(claim, records), elsewhere(claim, records, shared)) for claim in (*CLAIMS, *QUESTIONS)
    ]
    return render(
        TEMPLATES / "findings.md.j2",
        records=records,
        shared=[family for family in dict.fromkeys(shared.values()) if len(family) > 1],
        claims=rows[: len(CLAIMS)],
        questions=rows[len(CLAIMS) :],
        against=[
            (claim, record)
            for claim, record, _ in rows[: len(CLAIMS)]
            if record and record.verdicts[claim.name].word in (Word.REFUTED, Word.MIXED)
        ],
        on_paper=on_paper,
        rule=RULE,
    )


def meant(claim: Claim, records: Iterable[Record]) -> Record | None:
    """The study that was meant for a claim: the first that its sweep made."""
    return next((record for record in records if record.sweep == claim.sweep), None)


def elsewhere(claim: Claim, records: list[Record], shared: dict[str, tuple[str, ...]]) -> str:
    """What the other studies say of a claim, those with networks in common as one."""
    chosen = meant(claim, records)
    found: dict[tuple[str, ...], list[str]] = {}
    for record in records:
        name, word = record.study.name, record.verdicts[claim.name].word
        if record is not chosen and record.verdicts[claim.name].decisions:
            found.setdefault(shared[name], []).append(f"{name} {word}")
    of_chosen = shared[chosen.study.name] if chosen else ()
    texts = []
    for family, words in found.items():
        if family == of_chosen:
            texts.append(
                f"{', '.join(words)} (networks in common with {chosen.study.name})" if chosen else ""
            )
        else:
            texts.append(", ".join(words) + " (networks in common)" * (len(words) > 1))
    return "; ".join(texts)


def families(studies: Sequence[Study]) -> dict[str, tuple[str, ...]]:
    """For each study's name the names of all those that share networks with it, directly or through others.

    Two rows are one network where all settings and `RESULTS` agree.
    """
    names = [
        name for name in (*IDENTITY, *RECIPE, *RESULTS) if all(name in study.members for study in studies)
    ]
    rows = pd.concat([study.members[names].assign(_study=study.name) for study in studies])
    family = {study.name: {study.name} for study in studies}
    for together in rows.groupby(names, dropna=False)["_study"].unique():
        joint = set.union(*(family[name] for name in together))
        family |= dict.fromkeys(joint, joint)
    return {
        name: tuple(study.name for study in studies if study.name in members)
        for name, members in family.items()
    }


if __name__ == "__main__":
    sys.exit(main())
