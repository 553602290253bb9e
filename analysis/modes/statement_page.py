"""The page of a mode study: each statement with its verdict, explanation, evidence and picture."""

from itertools import groupby
from pathlib import Path

from ..figures.drawing import Drawing
from ..files import Files, written_together
from ..render import render
from ..schema import VERDICTS
from ..sections.provenance import provenance
from ..sections.section import Section, draw_panel, open_questions
from ..select import CannotAnswerError
from .statement_charts import STATEMENT_CHARTS, StatementChart
from .statements import Statement, read_statements

TEMPLATE = Path(__file__).parent / "statement_page.html.j2"


def write_page(folder: Path, out: Path) -> Path:
    """Write index.html and the figures of the mode study in `folder` to `out`, and return the page's path.

    All of them are written or none: an error or a kill leaves an earlier page as it was.

    Raises StudyError if `folder` holds no readable mode study, OSError if `out` cannot be written.
    """
    statements = read_statements(folder)
    with written_together(out) as files:
        section = statement_section(statements, files)
        page = render(
            TEMPLATE,
            name=folder.resolve().name,
            sections=[section],
            open_questions=open_questions([section]),
            closing=provenance(folder),
        )
        files["index.html"] = page.encode()
    return out / "index.html"


def statement_section(statements: list[Statement], files: Files) -> Section:
    """The statements by topic, with the figures of those that have one, which are added to `files`."""
    panel_of = {}
    for statement in statements:
        chart = STATEMENT_CHARTS.get(statement.number)
        if chart and statement.measured:
            panel_of[statement.number] = draw_panel(
                lambda statement=statement, chart=chart: draw(statement, chart),
                chart.name,
                chart.question,
                files,
            )
    verdicts = [statement.verdict for statement in statements]
    data = {
        "topics": [
            (topic, [(statement, panel_of.get(statement.number)) for statement in group])
            for topic, group in groupby(statements, key=lambda statement: statement.topic)
        ],
        "counts": [(verdicts.count(verdict), verdict) for verdict in VERDICTS if verdict in verdicts],
        "torch": ", ".join(sorted({statement.torch for statement in statements})),
    }
    panels = list(panel_of.values())
    return Section("modes", "What train() and eval() really do", "statements.html.j2", data, panels)


def draw(statement: Statement, chart: StatementChart) -> Drawing:
    """Draw a statement's figure. Raises CannotAnswerError where its numbers are not those of this version."""
    try:
        return chart.draw(statement.measured)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CannotAnswerError(
            f"Statement {statement.number} was measured otherwise than this figure expects ({error})."
        ) from error
