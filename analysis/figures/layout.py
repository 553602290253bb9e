"""A figure at the size at which it is printed: its panels wrap to the width, and every text fits.

The report draws each chart as large as its panels want. Inside `laid_out(Sheet(...))` the same chart is drawn at a
width in inches, or into a figure or axes that are there already; `Sheet.fit` then gives it its last touches.
"""

import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import AutoLocator

NARROWEST = 0.45  # how narrow a panel may be, of the width that its chart wants
MARGIN = 0.5  # inches beside the panels of a line: labels of the y axis
HEIGHTS = (
    0.42,
    0.72,
)  # a panel's axes may be so high, of its chart's height: narrow panels less than wide ones
ROOM = 4  # inches, more than a legend needs
GAP = 0.06  # inches between the numbers of an x axis

Index = tuple[int, int]  # row and column of a panel in its chart; or line and place on the sheet


class LayoutError(ValueError):
    """Axes that a chart cannot be drawn into; the message says which it needs."""


@dataclass
class Sheet:
    """What a chart is drawn on.

    Attributes:
        width: inches; of a figure that is there already, its own.
        height: inches; None lets it follow from the panels.
        font: size of the labels in points; all other texts keep their proportion to it.
        title: whether title and subtitle stand above the panels.
        place: an empty figure or subfigure with constrained layout; None makes a new figure.
        given: axes to draw into, as many as the chart has panels; none lets it make its own.
        panels: what was drawn on, [rows, columns] as the chart sees them.
        cells: where each of them lies.
    """

    width: float = 6.75
    height: float | None = None
    font: float = 8.0
    title: bool = False
    place: Figure | SubFigure | None = None
    given: Sequence[Axes] = ()
    panels: np.ndarray = field(default_factory=lambda: np.empty((0, 0), object))
    cells: dict[Index, Index] = field(default_factory=dict)
    _line: float = 0.0  # height of a panel's axes, inches, on the average of all lines

    @property
    def is_whole(self) -> bool:
        """Whether the height is settled before anything is drawn."""
        return self.place is not None or len(self.given) > 0 or self.height is not None

    @property
    def canvas(self) -> Figure | SubFigure:
        """What holds the panels, once there are any."""
        return self.panels.flat[0].figure

    def subplots(
        self,
        rows: int,
        columns: int,
        *,
        width: float,
        height: float,
        together: int = 1,
        sharex: bool | str = False,
        sharey: bool | str = False,
        height_ratios: Sequence[float] | None = None,
    ) -> np.ndarray:
        """A grid of panels as `Figure.subplots` makes it, but columns that do not fit lie below the others.

        Args:
            rows, columns: of the chart.
            width, height: of a panel, inches, as the chart wants it.
            together: so many columns next to each other stay in one line.
            sharex, sharey, height_ratios: as in `Figure.subplots`.

        Returns:
            The panels, [rows, columns].

        Raises:
            LayoutError: other than so many axes are given; the figure given lays nothing out.
        """
        first_x, first_y = (
            {index: _first(index, shared) for index in np.ndindex(rows, columns)}
            for shared in (sharex, sharey)
        )
        self.panels = np.empty((rows, columns), object)
        if len(self.given):
            self._fill(first_x, first_y)
            return self.panels
        if self.place is not None:
            self.width = self.place.bbox.width / self.place.dpi
            if not isinstance(self.place.get_layout_engine(), ConstrainedLayoutEngine):
                raise LayoutError("the figure that is given needs layout='constrained'")
        fitting = int((self.width - MARGIN) / (NARROWEST * width))
        self.cells = _cells(rows, columns, fitting, together, may_flow=height_ratios is None)
        lines, across = (1 + max(places) for places in zip(*self.cells.values(), strict=True))
        wide = HEIGHTS[1] * (self.width - MARGIN) / across / width
        self._line = height * min(HEIGHTS[1], max(HEIGHTS[0], wide))
        size = (self.width, self.height or 2 * lines * self._line + ROOM)
        figure = self.place or Figure(figsize=size, layout="constrained")
        ratios = [height_ratios[line % rows] if height_ratios else 1.0 for line in range(lines)]
        spec = figure.add_gridspec(lines, across, height_ratios=ratios)
        at = {cell: index for index, cell in self.cells.items()}
        for index, (line, place) in self.cells.items():
            panel = figure.add_subplot(
                spec[line, place],
                sharex=None if first_x[index] == index else self.panels[first_x[index]],
                sharey=None if first_y[index] == index else self.panels[first_y[index]],
            )
            self.panels[index] = panel
            beneath, beside = at.get((line + 1, place)), at.get((line, place - 1))
            is_last = index[0] == rows - 1
            panel.tick_params(
                labelbottom=is_last or beneath is None or first_x[index] != first_x[beneath],
                labelleft=beside is None or first_y[index] != first_y[beside],
            )
        return self.panels

    def _fill(self, first_x: dict[Index, Index], first_y: dict[Index, Index]) -> None:
        """Take the given axes as panels, in the order of reading; they share what the chart's panels do."""
        given, (rows, columns) = list(self.given), self.panels.shape
        if len(given) != rows * columns:
            panels = "1 panel" if rows * columns == 1 else f"{rows * columns} panels, {rows} x {columns}"
            raise LayoutError(
                f"it has {panels}, and {len(given)} axes are given: select fewer members, or give as many axes, "
                "or a figure or subfigure without any"
            )
        for index, panel in zip(np.ndindex(rows, columns), given, strict=True):
            self.panels[index] = panel
            for name, first in (("x", first_x[index]), ("y", first_y[index])):
                shared = getattr(panel, f"get_shared_{name}_axes")()
                if not shared.joined(panel, self.panels[first]):
                    getattr(panel, f"share{name}")(self.panels[first])

    def fit(self) -> None:
        """Label the panels that wrapping has put to the edges, break texts that are too long, set the height."""
        figure = self.panels.flat[0].get_figure(root=True)
        self._label_edges()
        self._draw(figure)
        for panel in self.panels.flat:
            box = panel.get_window_extent()
            for text in (panel.title, panel.xaxis.label, *panel.texts):
                wrap(text, box.width)
            wrap(panel.yaxis.label, box.height if self.is_whole else self._line * figure.dpi)
            _turn_crowded(panel)
            if self.place is None and len(self.given) == 0:
                _keep_ticks(panel)
        if not self.is_whole:
            self._draw(figure)
            lines = {
                line: self.panels[index].get_position().height for index, (line, _) in self.cells.items()
            }
            inside = sum(lines.values()) * figure.get_figheight()
            figure.set_figheight(figure.get_figheight() + len(lines) * self._line - inside)
        self._draw(figure)
        for panel in self.panels.flat:
            _thin_crowded(panel)

    @staticmethod
    def _draw(figure: Figure) -> None:
        """Lay the panels out. Raises LayoutError where labels and legend leave them no room."""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "constrained_layout not applied")
                figure.draw_without_rendering()
        except UserWarning as error:
            size = " x ".join(f"{inches:g}" for inches in figure.get_size_inches())
            raise LayoutError(
                f"labels and legend leave its panels no room in {size} inches; make it larger, or the font smaller"
            ) from error

    def _label_edges(self) -> None:
        """Give panels at the left and the lower edge the labels of their row and their column."""
        taken = {*self.cells.values()}
        for index, panel in np.ndenumerate(self.panels):
            line, place = self.cells.get(index, (0, 0))
            if place == 0 and not panel.get_ylabel():
                panel.set_ylabel(self.panels[index[0], 0].get_ylabel())
            if (line + 1, place) not in taken and not panel.get_xlabel():
                panel.set_xlabel(self.panels[-1, index[1]].get_xlabel())


_SHEET: ContextVar[Sheet | None] = ContextVar("sheet", default=None)


def current_sheet() -> Sheet | None:
    """The sheet that charts are drawn on; None where they are drawn for the report."""
    return _SHEET.get()


@contextmanager
def laid_out(sheet: Sheet) -> Iterator[Sheet]:
    """Charts that are drawn inside are drawn on `sheet`."""
    token = _SHEET.set(sheet)
    try:
        yield sheet
    finally:
        _SHEET.reset(token)


def wrap(text: Text, room: float) -> None:
    """Break the lines of a text at blanks until none is longer than `room` pixels, as far as its words allow.

    The lines into which one is broken are about equally long.
    """
    lines = text.get_text().split("\n")
    most, word = max(map(len, lines)), max(map(len, text.get_text().split()), default=0)
    while _length(text) > room and most > word:
        most -= 1
        text.set_text("\n".join(_even_lines(line, most) for line in lines))


def _even_lines(line: str, most: int) -> str:
    """Break a line into as few as possible of at most `most` characters, about equally long."""

    def broken(width: int) -> list[str]:
        return textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)

    fewest = len(broken(most))
    while most > 1 and len(broken(most - 1)) == fewest and max(map(len, broken(most - 1)), default=0) < most:
        most -= 1
    return "\n".join(broken(most))


def _length(text: Text) -> float:
    """How long the longest line of a text is in pixels, whichever way it runs."""
    box = text.get_window_extent()
    return box.height if text.get_rotation() == 90 else box.width


def _first(index: Index, shared: bool | str) -> Index:
    """The panel whose axis the one at `index` shares: the first of those that share it."""
    row, column = index
    return {True: (0, 0), "row": (row, 0), "col": (0, column)}.get(shared, index)


def _cells(rows: int, columns: int, fitting: int, together: int, may_flow: bool) -> dict[Index, Index]:
    """Line and place of each panel, with at most `fitting` in a line.

    Columns that do not fit lie below, all rows of them. A single column flows from left to right.
    """
    if columns == 1 and may_flow:
        across = _even(rows, max(1, fitting))
        return {(row, 0): divmod(row, across) for row in range(rows)}
    across = together * _even(columns // together, max(1, fitting // together))
    cells = {}
    for row, column in np.ndindex(rows, columns):
        block, place = divmod(column, across)
        cells[row, column] = (block * rows + row, place)
    return cells


def _even(panels: int, fitting: int) -> int:
    """How many of the panels stand in a line, so that the lines are about equally long."""
    lines = -(-panels // fitting)
    return -(-panels // lines)


def _keep_ticks(panel: Axes) -> None:
    """Keep the ticks of an x axis: a last number that comes and goes with the room for it has no layout."""
    axis = panel.xaxis
    if isinstance(axis.get_major_locator(), AutoLocator):
        low, high = axis.get_view_interval()
        axis.set_ticks([place for place in axis.get_majorticklocs() if low <= place <= high])


def _turn_crowded(panel: Axes) -> None:
    """Turn the numbers of an x axis upright where they would run into each other."""
    boxes = [label.get_window_extent() for label in _labels(panel, "x")]
    if any(after.x0 < before.x1 + GAP * panel.figure.dpi for before, after in pairwise(boxes)):
        panel.tick_params(axis="x", labelrotation=90)


def _thin_crowded(panel: Axes) -> None:
    """Leave out numbers of a y axis that would run into the one below."""
    top = -np.inf
    for label in _labels(panel, "y"):
        box = label.get_window_extent()
        if box.y0 < top - 1:
            label.set_visible(False)
        else:
            top = box.y1


def _labels(panel: Axes, axis: str) -> list[Text]:
    """The numbers that an axis shows, in ascending order."""
    side = {"x": panel.xaxis, "y": panel.yaxis}[axis]
    low, high = sorted(side.get_view_interval())
    shown = [
        (tick.get_loc(), tick.label1)
        for tick in [*side.get_major_ticks(), *side.get_minor_ticks()]
        if tick.label1.get_visible() and tick.label1.get_text() and low <= tick.get_loc() <= high
    ]
    return [label for _, label in sorted(shown, key=lambda pair: pair[0])]
