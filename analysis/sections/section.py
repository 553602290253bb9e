"""A section of a page: a template, its data, and panels with a figure each."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..beside.setting import PaperStudy
from ..figures import Chart, style
from ..figures.drawing import Drawing
from ..files import Files
from ..select import CannotAnswerError
from ..tables import Study

# Kinds of pictures that lie beside a page.
PICTURES = {"PNG": style.png_bytes, "SVG": style.svg_bytes, "PDF": style.pdf_bytes}


@dataclass(frozen=True)
class Source:
    """The study that a section reads, and the files that it adds to the report.

    Attributes:
        folder: the study's folder.
        study: its tables, every member included; `study.finished()` leaves out those without a result.
        paper: the part of it that the paper has too.
        files: what lies beside the page, see `analysis.files.written_together`.
    """

    folder: Path
    study: Study
    paper: PaperStudy
    files: Files


@dataclass(frozen=True)
class Panel:
    """A figure's place on the page: picture, caption and files, or the sentence that says why there is none."""

    name: str
    question: str
    image: str = ""
    finding: str = ""
    reading: str = ""
    missing: str = ""

    @property
    def files(self) -> dict[str, str]:
        """Where the figure lies beside the page, and its points: the path by the kind of file."""
        pictures = {kind: f"{self.name}.{kind.lower()}" for kind in PICTURES}
        return {**pictures, "CSV": f"data/{self.name}.csv"}


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        name: its anchor, unique on the page.
        title: its heading.
        template: the file that shows it, in analysis/templates or beside the page's own template; it finds this
            object as `section`.
        data: what that template needs besides the panels.
        panels: its figures. Those without a picture are gathered at the page's end, as questions left open.
    """

    name: str
    title: str
    template: str
    data: dict[str, Any] = field(default_factory=dict)
    panels: list[Panel] = field(default_factory=list)

    @property
    def shown(self) -> bool:
        """Whether the page has anything to show here."""
        return bool(self.data or self.figures)

    @property
    def figures(self) -> list[Panel]:
        """The panels with a picture."""
        return [panel for panel in self.panels if not panel.missing]


def open_questions(sections: list[Section]) -> list[tuple[str, str, list[str]]]:
    """The questions without a figure: question, the sentence that says why, and the sections that ask it."""
    where: dict[tuple[str, str], list[str]] = {}
    for section in sections:
        for panel in section.panels:
            if panel.missing:
                where.setdefault((panel.question, panel.missing), []).append(section.title)
    return [(*key, titles) for key, titles in where.items()]


def draw_panels(charts: Iterable[Chart], study: Study, files: Files, prefix: str = "") -> list[Panel]:
    """Draw each chart of the study as <prefix><chart>, add its files to `files`, and return the panels."""
    return [
        draw_panel(partial(chart.draw, study), f"{prefix}{chart.name}", chart.question, files)
        for chart in charts
    ]


def draw_panel(draw: Callable[[], Drawing], name: str, question: str, files: Files) -> Panel:
    """Draw a figure, add it to `files` as <name>.png, .svg and .pdf and data/<name>.csv, and return its panel.

    Where `draw` raises CannotAnswerError the panel holds its sentence, and the files of an earlier report go: they
    would pass for this one's.
    """
    try:
        drawing = draw()
    except CannotAnswerError as reason:
        panel = Panel(name, question, missing=str(reason))
        files |= dict.fromkeys(panel.files.values())
        return panel
    style.settle(drawing.figure)
    content = {kind: picture(drawing.figure) for kind, picture in PICTURES.items()}
    panel = Panel(name, question, style.data_uri(content["SVG"]), drawing.finding, drawing.reading)
    content["CSV"] = drawing.csv()
    files |= {path: content[kind] for kind, path in panel.files.items()}
    return panel
