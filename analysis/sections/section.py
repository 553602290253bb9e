"""What a section of the report is made of: a template, its data, and panels with a figure each."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.figures import Chart, style
from analysis.figures.drawing import Drawing
from analysis.select import CannotAnswerError
from analysis.tables import Study


@dataclass(frozen=True)
class Source:
    """What a section may read, and where its figures go.

    Attributes:
        folder: the study's folder.
        study: its tables, every member included; `study.finished()` leaves out those without a result.
        out: the report's folder.
    """

    folder: Path
    study: Study
    out: Path


@dataclass(frozen=True)
class Panel:
    """A figure's place on the page: picture and caption, or the sentence that says why there is none."""

    name: str
    question: str
    image: str = ""
    finding: str = ""
    reading: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        name: its anchor, unique on the page.
        title: its heading.
        template: the file in analysis/templates that shows it; it finds this object as `section`.
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
        return bool(self.data or self.drawn)

    @property
    def drawn(self) -> list[Panel]:
        """The panels with a picture."""
        return [panel for panel in self.panels if not panel.missing]


def draw_panels(charts: Iterable[Chart], study: Study, out: Path, prefix: str = "") -> list[Panel]:
    """Draw each chart of the study, write it to `out` as <prefix><chart>.svg and .png, and return the panels."""
    return [_panel(chart, study, out, f"{prefix}{chart.name}") for chart in charts]


def _panel(chart: Chart, study: Study, out: Path, name: str) -> Panel:
    try:
        drawing = chart.draw(study)
    except CannotAnswerError as reason:
        without_panel(out, name)
        return Panel(name, chart.question, missing=str(reason))
    return drawn_panel(drawing, chart.question, out, name)


def drawn_panel(drawing: Drawing, question: str, out: Path, name: str) -> Panel:
    """Write a drawing to `out` as <name>.svg and .png, and return its panel."""
    style.settle(drawing.figure)
    svg = style.svg_bytes(drawing.figure)
    (out / f"{name}.svg").write_bytes(svg)
    (out / f"{name}.png").write_bytes(style.png_bytes(drawing.figure))
    return Panel(name, question, style.data_uri(svg), drawing.finding, drawing.reading)


def without_panel(out: Path, name: str) -> None:
    """Take away what an earlier report drew: it would pass for this one's."""
    for kind in ("svg", "png"):
        (out / f"{name}.{kind}").unlink(missing_ok=True)
