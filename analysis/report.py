"""Turn a study into a page and its figures: `python -m analysis.report outputs/variance_shift [--out DIR]`.

Writes DIR/index.html, which needs no other file and no network, and every figure beside it as PNG and SVG.
"""

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import jinja2

from analysis.figures import CHARTS, Chart, style
from analysis.figures.drawing import CannotAnswerError
from analysis.summary import summary_table
from analysis.tables import Study, StudyError, member_label, read_provenance, read_study


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
    """What the page says about one network."""

    name: str
    title: str
    widths: int
    summary: list[dict]
    by_width: list[dict]
    panels: list[Panel]


def main(arguments: list[str] | None = None) -> int:
    """Write the report; return the exit status, 2 if there is nothing to report on."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.report", description="Write a study's figures and report page."
    )
    parser.add_argument("study", type=Path, help="the study's folder, for example outputs/variance_shift")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write (default: the folder report inside the study)"
    )
    options = parser.parse_args(arguments)
    try:
        page = write_report(options.study, options.out or options.study / "report")
    except (StudyError, OSError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    print(f"report: {page}")
    return 0


def write_report(folder: Path, out: Path) -> Path:
    """Write index.html and the figures of the study in `folder` to `out`, and return the page's path.

    Raises StudyError if `folder` holds no readable study, OSError if `out` cannot be written.
    """
    study = read_study(folder)
    out.mkdir(parents=True, exist_ok=True)
    networks = list(study.networks())
    left_out = study.left_out()
    page = _template().render(
        study=study,
        finished=len(study.members) - len(left_out),
        sections=[_section(network, out, alone=len(networks) == 1) for network in networks],
        left_out=[
            (member_label(member), member["status"], member.get("reason"))
            for _, member in left_out.iterrows()
        ],
        provenance=read_provenance(folder),
    )
    path = out / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


def _section(network: Study, out: Path, alone: bool) -> Section:
    name = re.sub(r"[^a-z0-9.]+", "-", network.name.lower())
    finished = network.finished()
    return Section(
        name=name,
        title=network.name,
        widths=network.members["width"].nunique(),
        summary=summary_table(network.members, network.layers).to_dict("records"),
        by_width=summary_table(network.members, network.layers, by=["width"]).to_dict("records"),
        panels=[
            _panel(chart, finished, out, chart.name if alone else f"{name}-{chart.name}") for chart in CHARTS
        ],
    )


def _panel(chart: Chart, finished: Study, out: Path, name: str) -> Panel:
    svg_file, png_file = out / f"{name}.svg", out / f"{name}.png"
    try:
        drawing = chart.draw(finished)
    except CannotAnswerError as reason:
        svg_file.unlink(missing_ok=True)  # an earlier report's figure would pass for this one's
        png_file.unlink(missing_ok=True)
        return Panel(name, chart.question, missing=str(reason))
    style.settle(drawing.figure)
    svg = style.svg_bytes(drawing.figure)
    svg_file.write_bytes(svg)
    png_file.write_bytes(style.png_bytes(drawing.figure))
    return Panel(name, chart.question, style.data_uri(svg), drawing.finding, drawing.reading)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("report.html.j2")


if __name__ == "__main__":
    sys.exit(main())
