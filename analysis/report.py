"""Turn a study into a page and its figures: `python -m analysis.report outputs/variance_shift [--out DIR]`.

Writes DIR/index.html, which needs no other file and no network, and every figure beside it as PNG and SVG, and
claims.csv. The
page is composed of sections, see `analysis.sections`.
"""

import argparse
import sys
from pathlib import Path

import jinja2

from analysis.modes import has_statements, study_without_members
from analysis.sections import CLOSING, EVIDENCE, OPENING, WITHOUT_MEMBERS, Section, Source
from analysis.tables import StudyError, read_study


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
    has_members = (folder / "members.csv").exists() or not has_statements(folder)
    study = read_study(folder) if has_members else study_without_members(folder)
    out.mkdir(parents=True, exist_ok=True)
    source = Source(folder, study, out)
    builders = EVIDENCE if has_members else WITHOUT_MEMBERS
    evidence = [section for build in builders for section in build(source)]
    page = _template().render(
        study=study,
        left_out=len(study.left_out()),
        opening=[section for build in OPENING for section in build(source, evidence)] if has_members else [],
        evidence=[section for section in evidence if section.shown],
        open_questions=open_questions(evidence),
        closing=[section for build in CLOSING for section in build(source)],
    )
    path = out / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


def open_questions(sections: list[Section]) -> list[tuple[str, str, list[str]]]:
    """What no panel could show: the question, the sentence that says why, and the sections it stands open in."""
    where: dict[tuple[str, str], list[str]] = {}
    for section in sections:
        for panel in section.panels:
            if panel.missing:
                where.setdefault((panel.question, panel.missing), []).append(section.title)
    return [(*key, titles) for key, titles in where.items()]


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
