"""Studies beside each other: the shift and the errors of each, and their differences; a colour for each study."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from ..differences import QUANTITIES, Comparison
from ..select import placements_in, require, where
from . import style
from .drawing import Drawing

# Apart from the colours of placements and of noise, and from each other under every common colour blindness.
LOOKS = [
    ("#222222", "o"),
    ("#aa3377", "s"),
    ("#44aa99", "^"),
    ("#999933", "D"),
    ("#6699cc", "v"),
    ("#661100", "P"),
]
READING = (
    "Colour: the study. Mean over its networks and, of the ratios, over the BN layers with noise of their own, "
    "with 95 % intervals over seeds; strength 0 is the network without noise. Cumulative: the shift by all noise; "
    "local: by a layer's own. Adjusted: BN's statistics estimated again without noise."
)
READING_DIFFERENCES = (
    "Each study minus {first}, with its own 95 % interval over seeds: {how}. An interval that leaves out 0 tells "
    "the two apart; of 20 without any difference one would, by chance."
)


def draw_means(comparison: Comparison, noise: str) -> Drawing:
    """Each study's shift and errors against the strength of one kind of noise."""
    points = _of(comparison.means, noise)
    figure = _grid(
        comparison, points, noise, "Shift and errors, study by study", comparison.names, _means_axis
    )
    finding = _finding(_of(comparison.differences, noise), comparison.names[0])
    return Drawing(figure, points, READING, finding)


def draw_differences(comparison: Comparison, noise: str) -> Drawing:
    """Each later study minus the first, against the strength of one kind of noise."""
    points, first = _of(comparison.differences, noise), comparison.names[0]
    title = f"Difference to {style.drawable(first)}"
    figure = _grid(comparison, points, noise, title, comparison.names[1:], _difference_axis)
    how = {
        "same": "none where the networks that both have are the very same ones",
        "paired": "paired, as members agree in all that identifies them and share their seeds",
        "Welch": "Welch's, as members share no seeds or are other networks",
    }
    said = "; ".join(how[word] for word in how if (points["how"] == word).any())
    return Drawing(figure, points, READING_DIFFERENCES.format(first=first, how=said), "")


def _of(table: pd.DataFrame, noise: str) -> pd.DataFrame:
    return require(table[table["noise"].isin([noise, "none"])], f"networks with {noise} in common")


def _grid(
    comparison: Comparison,
    points: pd.DataFrame,
    noise: str,
    title: str,
    names: list[str],
    axis: Callable[[np.ndarray, str, pd.DataFrame], None],
):
    placements = placements_in(points)
    quantities = [name for name in QUANTITIES if (points["quantity"] == name).any()]
    with style.figure_style():
        figure, axes = style.panels(
            len(quantities), len(placements), title, noise, height=1.9, sharex=True, sharey="row"
        )
        step = 0.012 * points["strength"].max()  # equal numbers must not hide each other
        for row, quantity in enumerate(quantities):
            of_quantity = where(points, quantity=quantity)
            for panel, placement in zip(axes[row], placements, strict=True):
                here = of_quantity[of_quantity["placement"].isin([placement, "none"])]
                for place, name in enumerate(names):
                    colour, marker = LOOKS[comparison.names.index(name)]
                    of_study = where(here, study=name).sort_values("strength")
                    x = of_study["strength"] + (place - (len(names) - 1) / 2) * step
                    style.error_bars(panel, x, of_study, fmt=f"{marker}-", color=colour, lw=1)
                if row == 0:
                    panel.set_title(placement)
                if row == len(quantities) - 1:
                    panel.set_xlabel(style.STRENGTH_LABEL[noise])
            axes[row, 0].set_ylabel(QUANTITIES[quantity].replace(", ", ",\n").replace(" test", "\ntest"))
            axis(axes[row], quantity, of_quantity)
        keys = [(style.drawable(name), *LOOKS[comparison.names.index(name)]) for name in names]
        entries = [style.key(name, color=colour, marker=marker) for name, colour, marker in keys]
        style.legend_below(figure, entries, columns=1 if max(map(len, names)) > 30 else 3)
    return figure


def _means_axis(panels: np.ndarray, quantity: str, points: pd.DataFrame) -> None:
    reach = pd.concat([points["mean"], points["high"].dropna()])
    (style.ratio_axis if quantity.endswith("ratio") else style.error_axis)(panels[0], reach)


def _difference_axis(panels: np.ndarray, quantity: str, points: pd.DataFrame) -> None:
    for panel in panels:
        panel.axhline(0, **style.NOMINAL_LINE)


def _finding(points: pd.DataFrame, first: str) -> str:
    """How many differences are told from 0, and the largest of each study's shift and error."""
    if (points["how"] == "same").all():
        return f"All networks that they have in common with {first} are the very same ones."
    told = points[(points["low"] > 0) | (points["high"] < 0)]
    known = points["low"].notna().sum()
    said = [
        f"{len(told)} of {known} differences to {first} are told from 0 ({0.05 * known:.1f} would be by chance)"
    ]
    largest = told.assign(size=told["mean"].abs()).sort_values("size", ascending=False, kind="stable")
    largest = largest[largest["quantity"].isin(["shift_ratio", "test_error"])]
    for row in largest.drop_duplicates(["study", "quantity"]).to_dict("records"):
        kind = "without noise" if row["noise"] == "none" else f"{row['placement']} at {row['strength']:g}"
        interval = f"{row['mean']:+.3g} [{row['low']:+.3g}, {row['high']:+.3g}]"
        said.append(f"{row['study']}, {QUANTITIES[row['quantity']]}, most {kind}: {interval}")
    return "; ".join(said) + "."
