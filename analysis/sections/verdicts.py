"""The page's opening: what the study says of each of the paper's claims, with links down to its figures."""

from collections import Counter

from ..claims import CLAIMS, RULE, Claim, Word, on_paper, verdict_table, verdicts
from ..claims.evidence import is_tuned
from ..claims.ledger import OWN_COMMAND
from ..claims.verdict import signed
from ..origins import typed_command
from .section import Panel, Section, Source


def sections(source: Source, evidence: list[Section]) -> list[Section]:
    """One section, given those that hold the evidence; also adds claims.csv to the report."""
    results = verdicts(source.study, typed_command(source.folder) or OWN_COMMAND)
    source.files["claims.csv"] = verdict_table(results).to_csv(index=False).encode()
    rows = [(verdict, _figures(verdict.claim, evidence)) for verdict in results]
    count = Counter(verdict.word for verdict in results[: len(CLAIMS)])
    data = {
        "groups": [("", rows[: len(CLAIMS)]), ("Questions of ours", rows[len(CLAIMS) :])],
        "counts": [(word, count[word]) for word in Word if count[word]],
        "is_tuned": is_tuned(source.study),
        "rule": RULE,
        "on_paper": on_paper,
        "signed": signed,
    }
    return [Section("verdicts", "The paper's claims on this study", "verdicts.html.j2", data)]


def _figures(claim: Claim, evidence: list[Section]) -> list[Panel]:
    """The first drawn panel of each chart that shows it; of several networks their names have a prefix."""
    panels = [panel for section in evidence for panel in section.figures]
    first_panels = []
    for chart in claim.figures:
        first_panels += [
            panel for panel in panels if panel.name == chart or panel.name.endswith(f"-{chart}")
        ][:1]
    return first_panels
