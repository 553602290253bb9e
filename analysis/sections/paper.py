"""What the paper published, beside this study where the two compare."""

from analysis.figures import PAPER_CHARTS
from analysis.sections.section import Section, Source, draw_panels


def sections(source: Source) -> list[Section]:
    """One section; its figures get the whole study, and need not use it."""
    panels = draw_panels(PAPER_CHARTS, source.study.finished(), source.out)
    return [Section("paper", "Beside the paper", "figures.html.j2", panels=panels)]
