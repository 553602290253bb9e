"""Figures of the paper's published values beside this study's where the two compare; findings in them alone."""

from functools import partial

from ..beside.setting import PaperStudy, setting_rows
from ..figures import PAPER_CHARTS
from ..figures.paper_charts import COMPARISONS
from ..paper.findings import statements
from .section import Panel, Section, Source, draw_panel, draw_panels


def sections(source: Source) -> list[Section]:
    """One section: how the setting differs, figures with both, then findings in the published numbers.

    What a study does not answer is one sentence with the sweeps that would, not a panel each.
    """
    study = source.paper
    panels, sweeps = comparisons(study, source)
    data = {
        "networks": [f"{network}, {dataset}" for dataset, network in study.setting],
        "setting": setting_rows(study.setting),
        "sweeps": sweeps,
        "statements": statements(),
    }
    panels += draw_panels(PAPER_CHARTS, source.study.finished(), source.files)
    return [Section("paper", "Beside the paper", "paper.html.j2", data, panels)]


def comparisons(study: PaperStudy, source: Source) -> tuple[list[Panel], list[str]]:
    """Draw each figure of the paper that the study can answer; return them, and the sweeps for the others."""
    panels, sweeps = [], []
    for chart in COMPARISONS:
        panel = draw_panel(partial(chart.draw, study), chart.name, chart.question, source.files)
        if panel.missing:
            sweeps.append(chart.sweep)
        else:
            panels.append(panel)
    return panels, sweeps
