"""Figures of statements about train() and eval(), by the number of the statement."""

from collections.abc import Callable
from typing import Any, NamedTuple

from analysis.figures.drawing import Drawing
from analysis.figures.modes import batches, shift


class StatementChart(NamedTuple):
    """A statement's figure: its file name, the question it answers, and what draws the numbers measured."""

    name: str
    question: str
    draw: Callable[[dict[str, Any]], Drawing]


STATEMENT_CHARTS = {
    7: StatementChart(
        "modes_stored_statistics", "How far are BN's stored statistics off?", batches.draw_stored_statistics
    ),
    14: StatementChart("modes_batch_size", "What do small test batches cost?", batches.draw_batch_size),
    23: StatementChart("modes_depth", "Does the shift accumulate with depth?", shift.draw_depth),
    24: StatementChart("modes_uout", "What does noise from [0, 1] do?", shift.draw_uout),
    25: StatementChart("modes_remedies", "Which remedy helps where?", shift.draw_remedies),
    26: StatementChart("modes_corners", "In which mode is the shift?", shift.draw_corners),
}
