"""What a figure draws, read from its lines, marks, bars and bands."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection, LineCollection, PathCollection
from matplotlib.figure import Figure

REFERENCES = [0.0, 1.0]  # lines that say no shift, no cost


def heights(figure: Figure) -> np.ndarray:
    """Every height that is drawn, of all panels."""
    every = [np.asarray(part, dtype=float).ravel() for axes in figure.axes for part in _heights(axes)]
    return np.concatenate([part[np.isfinite(part)] for part in every])


def _heights(axes: Axes) -> Iterator[object]:
    yield from (line.get_ydata() for line in axes.get_lines())
    for drawn in axes.collections:
        if isinstance(drawn, FillBetweenPolyCollection):
            yield np.concatenate([path.vertices[:, 1] for path in drawn.get_paths()])
        elif isinstance(drawn, LineCollection):
            yield from (segment[:, 1] for segment in drawn.get_segments())
        elif isinstance(drawn, PathCollection):
            yield drawn.get_offsets()[:, 1]


def not_in(points: pd.DataFrame, drawn: np.ndarray, factor: float = 1.0) -> np.ndarray:
    """The heights that are no number of `points`, nor `factor` times one, nor a reference."""
    numbers = points.select_dtypes("number").to_numpy(dtype=float, na_value=np.nan).ravel()
    numbers = np.unique(numbers[np.isfinite(numbers)])
    known = np.unique([*numbers, *(factor * numbers), *REFERENCES])
    place = np.clip(np.searchsorted(known, drawn), 1, len(known) - 1)
    nearest = np.minimum(np.abs(known[place] - drawn), np.abs(known[place - 1] - drawn))
    return drawn[nearest > 1e-9 * np.maximum(1, np.abs(drawn))]
