"""The result of a figure module: a picture and its caption."""

from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawing:
    """A finished figure and its caption.

    Attributes:
        figure: the picture.
        points: every number that it shows: what is measured with its interval, theory as its curve is drawn
            (rows without `n`), and published values.
        reading: how to read it.
        finding: what it shows in this study, in numbers.
    """

    figure: Figure
    points: pd.DataFrame
    reading: str
    finding: str

    def csv(self) -> bytes:
        """The points as a CSV file."""
        return self.points.convert_dtypes().to_csv(index=False).encode()
