"""The result of a figure module: a picture and its caption."""

from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawing:
    """A finished figure and its caption.

    Attributes:
        figure: the picture.
        points: the numbers that it shows.
        reading: how to read it.
        finding: what it shows in this study, in numbers.
    """

    figure: Figure
    points: pd.DataFrame
    reading: str
    finding: str
