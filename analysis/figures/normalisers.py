"""Figure: what switching the mode and what noise cost under each normaliser; only batch norm stores statistics."""

import pandas as pd
from matplotlib.axes import Axes

from ..interventions import effects
from ..select import (
    CannotAnswerError,
    example_strength,
    of_one_family,
    placements_in,
    require,
    values_in,
    where,
)
from ..stats import over_seeds
from ..tables import Study
from . import style
from .drawing import Drawing

LOOK = {  # normaliser -> colour, marker
    "batch": (style.DARK, "o"),
    "group": ("#56b4e9", "s"),
    "layer": ("#e69f00", "^"),
    "none": ("#cc79a7", "D"),
}
QUANTITIES = {
    "mode": "training error, eval\nminus train mode (points)",
    "gap": "test error minus that\nwithout noise (points)",
}

READING = (
    "Above: the same networks on their own training data, eval minus train mode. Eval mode has no noise and"
    " should be the better one, below 0; above 0, stored statistics do harm, and only batch norm stores "
    "any. Below: what the noise costs on test data, against the network of the same normaliser and seed "
    "without noise. What costs as much without stored statistics is no variance shift of theirs. Mean over "
    "seeds with its 95 % interval."
)


def draw(study: Study) -> Drawing:
    """Draw the figure from the finished members of all networks."""
    norms = [norm for norm in LOOK if (study.members["norm"] == norm).any()]
    if len(norms) == 1:
        raise CannotAnswerError(f"This study has networks of one normalisation only ({norms[0]}).")
    modes = ["train_error_eval_mode", "train_error_train_mode"]
    if not set(modes) <= set(study.members):
        raise CannotAnswerError("This study has no training error in both modes.")
    noise, noisy = of_one_family(study.members)
    costs = effects(pd.concat([where(study.members, noise="none"), noisy]))
    require(costs.dropna(subset=["gap"]), "finished noisy member with a noise-free twin of its seed")
    evaluation, training = (pd.to_numeric(noisy[mode]) for mode in modes)
    tables = {"mode": noisy.assign(mode=evaluation - training), "gap": costs}
    by = ["norm", "placement", "strength"]
    points = pd.concat(
        [over_seeds(tables[name], name, by).assign(quantity=name) for name in QUANTITIES], ignore_index=True
    )
    placements = placements_in(points)
    with style.figure_style():
        title = "With and without stored statistics"
        figure, axes = style.panels(
            2, len(placements), title, study.name, width=3, height=2.5, sharex=True, sharey="row"
        )
        for row, (quantity, label) in enumerate(QUANTITIES.items()):
            for column, placement in enumerate(placements):
                here = where(points, placement=placement, quantity=quantity)
                _draw_panel(axes[row, column], here)
                axes[row, column].set_title(placement)
            axes[row, 0].set_ylabel(label)
        for panel in axes[-1]:
            panel.set(xlabel=style.STRENGTH_LABEL[noise], xticks=values_in(points, "strength"))
        axes[1, 0].set_yscale("symlog", linthresh=1)
        axes[1, 0].set_yticks([-1, 0, 1, 2, 5, 10, 20, 50], ["-1", "0", "1", "2", "5", "10", "20", "50"])
        style.legend_below(figure, [_key(norm) for norm in norms])
    return Drawing(figure, points, READING, _finding(points, norms, style.STRENGTH_LABEL[noise]))


def _key(norm: str):
    name = "no norm" if norm == "none" else f"{norm} norm"
    return style.key(name, color=LOOK[norm][0], marker=LOOK[norm][1])


def _draw_panel(panel: Axes, here: pd.DataFrame) -> None:
    panel.axhline(0, color=style.GREY, lw=0.9)
    strengths = values_in(here, "strength")
    step = 0.014 * (max(strengths, default=1) - min(strengths, default=0) or 1)
    for place, (norm, (colour, marker)) in enumerate(LOOK.items()):
        points = where(here, norm=norm)
        x = points["strength"] + (place - 1.5) * step
        style.error_bars(panel, x, points, fmt=f"{marker}-", color=colour, ms=4.5, lw=1.2)


def _finding(points: pd.DataFrame, norms: list[str], label: str) -> str:
    strength = example_strength(points["strength"])
    sentences = []
    for quantity, what in (("mode", "eval minus train mode"), ("gap", "cost of the noise")):
        for placement in placements_in(points):
            here = where(points, placement=placement, strength=strength, quantity=quantity)
            parts = [
                f"{norm} {_in_points(row)}" for norm in norms for _, row in where(here, norm=norm).iterrows()
            ]
            sentences.append(f"{what}, {placement}: {', '.join(parts)}")
    return f"At {label} {strength:g}, in percentage points, paired over seeds: {'; '.join(sentences)}."


def _in_points(change: pd.Series) -> str:
    return f"{change['mean']:+.1f}" + (
        "" if change["n"] < 2 else f" [{change['low']:+.1f}, {change['high']:+.1f}]"
    )
