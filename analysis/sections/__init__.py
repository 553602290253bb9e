"""The report's sections, in the order of the page: picture, words, verdicts, figures, tables, how it was made.

To add one, write a module beside these with a function `sections(source) -> list[Section]` (empty where the study
has nothing for it) and a partial template in `analysis/templates`, and name the function in `EVIDENCE`. To add a
figure to a section that is here, add a `Chart` to its list in `analysis/figures/__init__.py`.
"""

from collections.abc import Callable

from . import interventions, networks, paper, picture, provenance, tables, verdicts, words
from .section import Panel, Section, Source

__all__ = ["CLOSING", "EVIDENCE", "FRONT", "OPENING", "Panel", "Section", "Source"]

FRONT: list[Callable[[Source], list[Section]]] = [picture.sections, words.sections]
OPENING = [verdicts.sections]  # also given the sections of evidence, to link to them
EVIDENCE: list[Callable[[Source], list[Section]]] = [
    networks.sections,
    interventions.sections,
    paper.sections,
    tables.sections,
]
CLOSING: list[Callable[[Source], list[Section]]] = [provenance.sections]  # after the questions left open
