"""The report's sections, in the order of the page: verdicts, evidence, how it was made.

To add one, write a module beside these with a function `sections(source) -> list[Section]` (empty where the study
has nothing for it) and a partial template in `analysis/templates`, and name the function in `EVIDENCE`. To add a
figure to a section that is here, add a `Chart` to its list in `analysis/figures/__init__.py`.
"""

from collections.abc import Callable

from . import interventions, networks, paper, provenance, verdicts
from .section import Panel, Section, Source

__all__ = ["CLOSING", "EVIDENCE", "OPENING", "Panel", "Section", "Source"]

EVIDENCE: list[Callable[[Source], list[Section]]] = [
    networks.sections,
    paper.sections,
    interventions.sections,
]
OPENING = [verdicts.sections]  # also given the sections of evidence, to link to them
CLOSING: list[Callable[[Source], list[Section]]] = [provenance.sections]  # after the questions left open
