"""Turn a study into a page and its figures: `python -m analysis.report outputs/variance_shift [--out DIR]`.

Writes DIR/index.html, which needs no other file and no network, and every figure beside it as PNG and SVG, and
claims.csv. The page is composed of sections, see `analysis.sections`.
"""

import argparse
import sys
from pathlib import Path

from analysis.render import TEMPLATES, render
from analysis.sections import CLOSING, EVIDENCE, OPENING, Source
from analysis.sections.section import open_questions
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
    study = read_study(folder)
    out.mkdir(parents=True, exist_ok=True)
    source = Source(folder, study, out)
    evidence = [section for build in EVIDENCE for section in build(source)]
    opening = [section for build in OPENING for section in build(source, evidence)]
    page = render(
        TEMPLATES / "report.html.j2",
        name=study.name,
        study=study,
        left_out=len(study.left_out()),
        sections=[*opening, *(section for section in evidence if section.shown)],
        open_questions=open_questions(evidence),
        closing=[section for build in CLOSING for section in build(source)],
    )
    path = out / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main())
