"""The report's figures: modules whose `draw` turns finished members into a `Drawing`, and where each stands."""

from collections.abc import Callable
from typing import NamedTuple

from ..tables import Study
from . import (
    cascade,
    collapse,
    core,
    error_vs_rate,
    learning_rate,
    matched_noise,
    normalisers,
    paper_error,
    predicted,
    shift_cost,
    shift_per_layer,
    shift_vs_rate,
    width,
    width_law,
)
from .drawing import Drawing


class Chart(NamedTuple):
    """A figure of the report: its file name, the question it answers, and what draws it."""

    name: str
    question: str
    draw: Callable[[Study], Drawing]


CORE = Chart("core", "Theory, measurement and the paper: how large is the shift?", core.draw)
CHARTS = [  # drawn from one network: data set, model, depth, normaliser, recipe
    Chart("shift_vs_rate", "How large is the shift, and does theory say so?", shift_vs_rate.draw),
    Chart("matched_noise", "Is one kind of noise better, or only quieter?", matched_noise.draw),
    Chart("collapse", "Does the kind of noise matter, or only its variance?", collapse.draw),
    Chart("shift_per_layer", "Which layers are off?", shift_per_layer.draw),
    Chart("predicted", "How well does theory predict each layer?", predicted.draw),
    Chart("width", "Do wider networks shift less?", width.draw),
    Chart("width_law", "What does width act through?", width_law.draw),
    Chart(
        "error_vs_rate", "What does the noise cost, and does adjusting BN win it back?", error_vs_rate.draw
    ),
    Chart("shift_cost", "What does the shift cost, by the means or by the variances?", shift_cost.draw),
]
PAPER_CHARTS = [  # beside the paper's published values; drawn from the whole study
    Chart("paper_error", "What did the noise cost in the paper?", lambda _: paper_error.draw()),
]
STUDY_CHARTS = [  # interventions: drawn from the whole study, across its networks
    Chart("cascade", "Does the shift grow with depth, and is it local x cascade?", cascade.draw),
    Chart("normalisers", "Is it gone where nothing stores statistics?", normalisers.draw),
    Chart("learning_rate", "Is it the noise, or the learning rate?", learning_rate.draw),
]
