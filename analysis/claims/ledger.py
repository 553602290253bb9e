"""Verdicts of a study on every claim and question, and their table."""

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache

import pandas as pd

from ..tables import Study
from .evidence import Evidence, evidence
from .published import published
from .statements import CLAIMS, QUESTIONS, Claim
from .verdict import (
    MOST_SEEDS,
    SIGNIFICANCE,
    CannotTestError,
    Decision,
    Part,
    Word,
    combine,
    decide,
)

OWN_COMMAND = "the study's own command"
# What a command with other seeds leaves out.
_SEEDS = re.compile(r" (?:'(?:members\.seed|until[.\w]*)=[^']*'|(?:members\.seed|until[.\w]*)=\S*)")
RULE = (
    "Each claim is decided by itself: any of its numbers is wrongly decided in at most 5 % of studies "
    "(Holm's correction). "
    f"Over {len(CLAIMS)} claims up to {len(CLAIMS) * SIGNIFICANCE:.1g} false decisions are expected."
)


@dataclass(frozen=True)
class Verdict:
    """What a study says of a claim.

    Attributes:
        claim: the claim.
        word: the verdict.
        decisions: its numbers.
        missing: what the study lacks to decide all of it.
        commands: what would supply it.
    """

    claim: Claim
    word: Word
    decisions: list[Decision]
    missing: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    @property
    def headline(self) -> Decision | None:
        """The number to name first: the first that is decided against the claim, else for it, else undecided."""
        order = [Word.REFUTED, Word.SUPPORTED, Word.UNDECIDED]
        return min(self.decisions, key=lambda decision: order.index(decision.word), default=None)

    @property
    def lack(self) -> str:
        """Why the study does not decide all of the claim, a sentence; empty where it does."""
        said = "Here there is" if self.word is Word.DOES_NOT_ARISE else "Missing:"
        return f"{said} {'; '.join(self.missing)}" if self.missing else ""

    @property
    def tally(self) -> str:
        """What was decided of several numbers, such as '3 of 4 supported, 1 refuted'; empty where one says all."""
        count = Counter(str(decision.word) for decision in self.decisions)
        if len(self.decisions) < 2:
            return ""
        (first, most), *others = count.most_common()
        return ", ".join(
            [f"{most} of {len(self.decisions)} {first}", *(f"{number} {word}" for word, number in others)]
        )


def verdicts(study: Study, command: str = OWN_COMMAND) -> list[Verdict]:
    """A study's verdict on every claim of the paper, then on every question of ours.

    `command` is the one that made the study: with more seeds it trains those that the study lacks.
    """
    found = evidence(study)
    larger = _SEEDS.sub("", command)
    significance = SIGNIFICANCE / study.looks
    return [verdict_on(claim, found, larger, significance) for claim in (*CLAIMS, *QUESTIONS)]


def verdict_on(
    claim: Claim, found: Evidence, larger: str = OWN_COMMAND, significance: float = SIGNIFICANCE
) -> Verdict:
    """The verdict on one claim; `larger` is the command that lets the study grow, but for its seeds."""
    parts, obstacles = attempt(claim, found)
    decisions = decide(parts, significance)
    missing = [*dict.fromkeys(obstacle.missing for obstacle in obstacles)]
    commands = [*dict.fromkeys(obstacle.command for obstacle in obstacles if obstacle.command)]
    seeds = [decision.seeds_needed for decision in decisions if decision.word is Word.UNDECIDED]
    if seeds:
        most = max(number or math.inf for number in seeds)
        needed = f"about {most}" if most <= MOST_SEEDS else f"more than {MOST_SEEDS}"
        missing.append(f"too few seeds; at these effects and spreads {needed} seeds would decide")
        if most <= MOST_SEEDS:
            commands.append(f'{larger} "members.seed=[$(seq -s, 0 {most - 1})]"')
    return Verdict(claim, combine(decisions, obstacles), decisions, missing, commands)


def attempt(claim: Claim, found: Evidence) -> tuple[list[Part], list[CannotTestError]]:
    """The parts of a claim that the evidence can estimate, and why it cannot estimate the others.

    A control alone tests nothing: it stands only beside the numbers that it guards.
    """
    parts: list[Part] = []
    obstacles: list[CannotTestError] = []
    for prediction in claim.predictions:
        try:
            parts += prediction(found)
        except CannotTestError as obstacle:
            obstacles.append(obstacle)
    return parts if any(not part.control for part in parts) else [], obstacles


@cache
def on_paper(claim: Claim) -> str:
    """What the claim's predictions make of the paper's own published numbers, in a sentence."""
    parts, _ = attempt(claim, published())
    met = [
        f"{part.name} {part.estimate.value:+.3g}{' ' * bool(part.unit)}{part.unit} ({part.prediction}"
        f"{'' if part.holds else ': not met'})"
        for part in parts
    ]
    return "; ".join([*met, *([f"not published: {claim.not_in_paper}"] if claim.not_in_paper else [])])


def verdict_table(found: list[Verdict]) -> pd.DataFrame:
    """A row per part of every claim, or per claim without any: what claims.csv holds.

    Columns: claim, statement, verdict; part, prediction, effect, unit, low, high (95 % interval of this number
    alone), low_simultaneous, high_simultaneous (all parts of the claim at once), seeds, least_seeds (with fewer
    this test can decide nothing), members, minimum_detectable_effect, p_holm, outcome (of this part); figures
    (that show it), sweep (meant for it), published, on_paper (the same predictions on the paper's numbers),
    missing, command.
    """
    rows = []
    for verdict in found:
        claim = verdict.claim
        head = {"claim": claim.name, "statement": claim.statement, "verdict": str(verdict.word)}
        tail = {"figures": " ".join(claim.figures), "sweep": claim.sweep, "published": claim.published}
        tail |= {
            "on_paper": on_paper(claim),
            "missing": "; ".join(verdict.missing),
            "command": "; ".join(verdict.commands),
        }
        rows += [head | _part_cells(decision) | tail for decision in verdict.decisions] or [head | tail]
    return pd.DataFrame(rows, columns=[*_HEAD, *_PART, *_TAIL])


_HEAD = ["claim", "statement", "verdict"]
_PART = [
    *["part", "prediction", "effect", "unit", "low", "high", "low_simultaneous", "high_simultaneous"],
    *["seeds", "least_seeds", "members", "minimum_detectable_effect", "p_holm", "outcome"],
]
_TAIL = ["figures", "sweep", "published", "on_paper", "missing", "command"]


def _part_cells(decision: Decision) -> dict:
    part, contrast = decision.part, decision.part.contrast
    cells = [
        *(part.name, part.prediction, contrast.estimate.value, part.unit, decision.low, decision.high),
        *(decision.low_simultaneous, decision.high_simultaneous, contrast.estimate.n, decision.least_seeds),
        *(contrast.members, decision.minimum_detectable, decision.p_value, decision.answer),
    ]
    return dict(zip(_PART, cells, strict=True))
