"""Turn a study into a page and its figures: `python -m analysis.report outputs/variance_shift [--out DIR]`.

Writes DIR/index.html, which needs no other file and no network, and every figure beside it as PNG, SVG, PDF
and CSV, and claims.csv. The page is composed of sections, see `analysis.sections`. Several studies are set beside
each other, see `analysis.side_by_side`.
"""

import sys
from pathlib import Path

from .beside.setting import paper_study
from .files import written_together
from .origins import notes
from .render import TEMPLATES, Beside, page_command, render
from .sections import CLOSING, EVIDENCE, FRONT, OPENING, Source
from .sections.section import open_questions
from .side_by_side import comparison_folder, write_comparison
from .tables import read_study


def main(arguments: list[str] | None = None) -> int:
    """Write the report; return the exit status, 2 if there is nothing to report on."""
    description, study_help = (
        "Write a study's figures and report page, or set several studies beside each other.",
        "the study's folder, for example outputs/variance_shift; several are set beside each other",
    )
    beside = Beside(write_comparison, comparison_folder)
    return page_command("report", description, study_help, write_report, arguments, beside)


def write_report(folder: Path, out: Path) -> Path:
    """Write index.html and the figures of the study in `folder` to `out`, and return the page's path.

    All of them are written or none: an error or a kill leaves an earlier report as it was.

    Raises StudyError if `folder` holds no readable study, OSError if `out` cannot be written.
    """
    study = read_study(folder)
    paper = paper_study(study.finished(), folder)  # reads files: all is read before anything is written
    with written_together(out) as files:
        source = Source(folder, study, paper, files)
        front = [section for build in FRONT for section in build(source)]
        evidence = [section for build in EVIDENCE for section in build(source)]
        opening = [section for build in OPENING for section in build(source, evidence)]
        page = render(
            TEMPLATES / "report.html.j2",
            name=study.name,
            study=study,
            notes=notes(folder),
            left_out=len(study.left_out()),
            sections=[*front, *opening, *(section for section in evidence if section.shown)],
            open_questions=open_questions(evidence),
            closing=[section for build in CLOSING for section in build(source)],
        )
        files["index.html"] = page.encode()
    return out / "index.html"


if __name__ == "__main__":
    sys.exit(main())
