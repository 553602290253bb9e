"""The statements about train() and eval() that the study tested: verdict, explanation, evidence, picture."""

from itertools import groupby

from analysis.figures import Chart
from analysis.figures.drawing import Drawing
from analysis.figures.modes import STATEMENT_CHARTS, StatementChart
from analysis.modes import VERDICTS, Statement, read_statements
from analysis.sections.section import Section, Source, draw_panels
from analysis.select import CannotAnswerError


def sections(source: Source) -> list[Section]:
    """One section if the study tested any statement."""
    statements = read_statements(source.folder)
    if not statements:
        return []
    drawn = [
        statement for statement in statements if statement.number in STATEMENT_CHARTS and statement.measured
    ]
    charts = [_chart(statement, STATEMENT_CHARTS[statement.number]) for statement in drawn]
    panels = draw_panels(charts, source.study, source.out)
    panel_of = {statement.number: panel for statement, panel in zip(drawn, panels, strict=True)}
    verdicts = [statement.verdict for statement in statements]
    data = {
        "topics": [
            (topic, [(statement, panel_of.get(statement.number)) for statement in group])
            for topic, group in groupby(statements, key=lambda statement: statement.topic)
        ],
        "counts": [(verdicts.count(verdict), verdict) for verdict in VERDICTS if verdict in verdicts],
        "torch": ", ".join(sorted({statement.torch for statement in statements})),
    }
    return [Section("modes", "What train() and eval() really do", "modes.html.j2", data, panels)]


def _chart(statement: Statement, chart: StatementChart) -> Chart:
    def draw(_) -> Drawing:
        try:
            return chart.draw(statement.measured)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise CannotAnswerError(
                f"Statement {statement.number} was measured otherwise than this figure expects ({error})."
            ) from error

    return Chart(chart.name, chart.question, draw)
