"""The paper's figures with ours in them, in the paper's order."""

from collections.abc import Callable
from typing import NamedTuple

from ..beside.setting import PaperStudy
from . import paper_cos2, paper_flips, paper_modes, paper_shift
from .drawing import Drawing


class Comparison(NamedTuple):
    """A figure of the paper: its file name, the question it answers, what draws it, the sweep that it needs."""

    name: str
    question: str
    draw: Callable[[PaperStudy], Drawing]
    sweep: str


COMPARISONS = [
    Comparison(
        "paper_figure1",
        "Figure 1: what does one dropout do to DenseNet?",
        paper_shift.draw_figure1,
        "paper_fig1",
    ),
    Comparison(
        "paper_figure3",
        "Figure 3: do filters point along the all-ones vector?",
        paper_cos2.draw,
        "paper_fig3_table1",
    ),
    Comparison(
        "paper_figure4", "Figure 4: where does the shift arise?", paper_shift.draw_figure4, "paper_fig4"
    ),
    Comparison(
        "paper_figure5", "Figure 5: does the mode alone change accuracy?", paper_modes.draw, "paper_fig5"
    ),
    Comparison("paper_figure6", "Figure 6: which images flip?", paper_flips.draw, "paper_fig6"),
]
