"""Figures that set networks or members against each other on purpose: what changes when one thing is changed?"""

from ..figures import STUDY_CHARTS
from .section import Section, Source, draw_panels


def sections(source: Source) -> list[Section]:
    """One section, of the figures that need the whole study."""
    panels = draw_panels(STUDY_CHARTS, source.study.finished(), source.files)
    return [Section("interventions", "Interventions", "figures.html.j2", panels=panels)]
