"""The paper's claims C1 to C14, each a function from a study's tables to numbers and what was predicted of them.

`python -m analysis.claims outputs/STUDY` prints the verdicts; the report opens with them. `verdict` says how
they are decided and corrected, `evidence` which members are compared. Test data chooses nothing: rates are
fixed beforehand, a learning rate is chosen on the validation split.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from analysis.claims import errors, shift, theory
from analysis.claims.evidence import Evidence, evidence
from analysis.claims.verdict import CannotTestError, Decision, Part, Word, combine, decide
from analysis.tables import Study


@dataclass(frozen=True)
class Claim:
    """One of the paper's claims.

    Attributes:
        name: C1 to C14.
        statement: what the paper says.
        published: the paper's own number for it.
        test: from evidence to numbers and predictions; raises CannotTestError.
        figures: charts that show it, the best first.
    """

    name: str
    statement: str
    published: str
    test: Callable[[Evidence], list[Part]]
    figures: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """What a study says of a claim; `missing` and `command` say what it lacks, where it cannot tell."""

    claim: Claim
    word: Word
    decisions: list[Decision]
    missing: str = ""
    command: str = ""


CLAIMS = [
    Claim(
        "C1",
        "At equal rate, dropout straight before BN shifts its variance more than dropout before the weight layer.",
        "mean magnitude at rate 0.5: 1.37 to 1.59 against 1.02 to 1.06",
        shift.before_bn_shifts_more,
        ("shift_vs_rate",),
    ),
    Claim(
        "C2",
        "The shift grows with the drop rate and is about none at 0.1.",
        "Figure 4",
        shift.grows_with_rate,
        ("shift_vs_rate",),
    ),
    Claim("C3", "Eq 8 holds in every layer.", "Eq 8", theory.equation_8_holds, ("predicted",)),
    Claim(
        "C4",
        "Eq 12 predicts the shift of dropout before the weight layer.",
        "Eq 12",
        theory.equation_12_holds,
        ("predicted",),
    ),
    Claim(
        "C5",
        "cos² does not fall like 1/d, so d cos² grows linearly with the fan-in d.",
        "Figure 3; cos² in (0.01, 0.10)",
        theory.d_cos2_grows_linearly,
        ("width_law", "width"),
    ),
    Claim(
        "C6",
        "Wider networks shift less and bear a larger rate.",
        "WRN against PreResNet, Figure 4",
        shift.wider_shifts_less,
        ("width",),
    ),
    Claim(
        "C7",
        "With dropout before BN, switching the mode alone changes accuracy on the very same training data.",
        "eval mode 0.2 to 17.7 points worse at rate 0.5, Figure 5",
        errors.mode_changes_accuracy,
        ("error_vs_rate",),
    ),
    Claim(
        "C8",
        "Adjusting BN's statistics lowers test error; without dropout it does about nothing.",
        "20 to 71 % of the loss won back before_bn, Table 3",
        errors.adjustment_helps,
        ("error_vs_rate",),
    ),
    Claim(
        "C9",
        "A larger shift goes with a larger error.",
        "Figure 4, curves beside bars",
        errors.larger_shift_larger_error,
        ("transplant", "error_vs_rate"),
    ),
    Claim(
        "C10",
        "One dropout after the last BN shifts nothing and lowers test error.",
        "gains of -0.9 to +0.7 points over networks and rates, Table 4",
        shift.last_layer_is_safe,
        ("error_vs_rate", "shift_vs_rate"),
    ),
    Claim(
        "C11",
        "Uout shifts less than dropout (at equal label; and at equal noise variance?).",
        "Eq 15: ratio 3/(3 + beta²)",
        shift.uout_shifts_less,
        ("matched_noise", "collapse"),
    ),
    Claim(
        "C12",
        "Uout before the weight layer gains 0.2 to 0.3 points, except on ResNeXt.",
        "gains of -0.08 to +0.30 points over networks and betas, Table 6",
        errors.uout_gains,
        ("error_vs_rate",),
    ),
    Claim(
        "C13",
        "Uout suffers less from little data than last-layer dropout.",
        "stated in the text",
        errors.uout_bears_little_data,
        ("error_vs_rate",),
    ),
    Claim(
        "C14",
        "Normalisers without stored statistics are immune.",
        "follows from the paper's explanation; not measured there",
        errors.without_statistics_immune,
        ("normalisers",),
    ),
]


def verdicts(study: Study) -> list[Verdict]:
    """Every claim's verdict from one study, decided together."""
    found = evidence(study)
    attempts = [_attempt(claim, found) for claim in CLAIMS]
    decisions = iter(decide([part for parts, _ in attempts for part in parts]))
    return [
        _verdict(claim, [next(decisions) for _ in parts], obstacle)
        for claim, (parts, obstacle) in zip(CLAIMS, attempts, strict=True)
    ]


def _attempt(claim: Claim, found: Evidence) -> tuple[list[Part], CannotTestError | None]:
    try:
        return claim.test(found), None
    except CannotTestError as obstacle:
        return obstacle.parts, obstacle


def _verdict(claim: Claim, decisions: list[Decision], obstacle: CannotTestError | None) -> Verdict:
    if obstacle:
        return Verdict(claim, Word.NOT_TESTABLE, decisions, obstacle.missing, obstacle.command)
    word = combine(decisions)
    open_parts = [decision for decision in decisions if decision.word is Word.UNDECIDED]
    if not open_parts:
        return Verdict(claim, word, decisions)
    seeds = max((decision.seeds_needed or 0 for decision in open_parts), default=0)
    if any(decision.seeds_needed is None for decision in open_parts):
        lacking = "too few seeds; at this effect and spread it takes more than 200"
        return Verdict(claim, word, decisions, lacking)
    command = f'the study\'s own command with study=NAME "members.seed=[$(seq -s, 0 {seeds - 1})]"'
    return Verdict(claim, word, decisions, f"too few seeds; about {seeds} would decide", command)


def verdict_table(found: list[Verdict]) -> pd.DataFrame:
    """A row per part of every claim, or per claim without any: what claims.csv holds.

    Columns: claim, statement, verdict; part, prediction, effect, unit, low, high (95 % interval of this number
    alone), low_simultaneous, high_simultaneous (all parts at once), seeds, members, minimum_detectable_effect,
    p_holm, outcome (of this part); figures (that show it), published, missing, command.
    """
    rows = []
    for verdict in found:
        claim = verdict.claim
        head = {"claim": claim.name, "statement": claim.statement, "verdict": str(verdict.word)}
        tail = {"figures": " ".join(claim.figures), "published": claim.published}
        tail |= {"missing": verdict.missing, "command": verdict.command}
        rows += [head | _part_cells(decision) | tail for decision in verdict.decisions] or [head | tail]
    return pd.DataFrame(rows, columns=[*_HEAD, *_PART, *_TAIL])


_HEAD = ["claim", "statement", "verdict"]
_PART = [
    *["part", "prediction", "effect", "unit", "low", "high", "low_simultaneous", "high_simultaneous"],
    *["seeds", "members", "minimum_detectable_effect", "p_holm", "outcome"],
]
_TAIL = ["figures", "published", "missing", "command"]


def _part_cells(decision: Decision) -> dict:
    part, contrast = decision.part, decision.part.contrast
    cells = [
        *(part.name, part.prediction, contrast.estimate.value, part.unit, decision.low, decision.high),
        *(decision.low_simultaneous, decision.high_simultaneous, contrast.estimate.n, contrast.members),
        *(decision.minimum_detectable, decision.p_value, str(decision.word)),
    ]
    return dict(zip(_PART, cells, strict=True))
