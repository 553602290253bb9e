"""How every figure looks: colours, markers, axes, and files whose bytes depend on nothing but the picture."""

import io
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from ..command import one_line
from ..theory.noises import FAMILIES
from .layout import current_sheet, wrap

# Two sets of colours that stay apart under every common colour blindness; a word keeps its own everywhere.
PLACEMENT_COLOUR = {"before_bn": "#d55e00", "before_weight": "#0072b2", "after_last_bn": "#009e73"}
NOISE_COLOUR = {name: family.colour for name, family in FAMILIES.items()}
DARK = "#333333"
GREY = "#777777"
FEW_LAYERS = 40  # of a network each of which can be a mark with a bar of its own
LEAST_SEEDS = 3  # of a band: the interval of two is 13 times as wide as what lies between them
NOMINAL_LINE = {"color": GREY, "ls": (0, (4, 2)), "lw": 1.2}

STRENGTH_LABEL = {name: family.strength_label for name, family in FAMILIES.items()}
RATIO_LABEL = "Var$_{test}$ / Var$_{train}$"

_STYLE: dict[Any, Any] = {
    **sns.axes_style("whitegrid"),
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same picture on every machine
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "figure.titlesize": 12.5,
    "figure.titleweight": "bold",
    "axes.edgecolor": "#999999",
    "axes.linewidth": 0.8,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "variance-shift",  # otherwise the ids inside an SVG are random
}


@contextmanager
def figure_style() -> Iterator[None]:
    """The look of all figures, for drawing and for saving; matplotlib's own settings come back afterwards."""
    sheet = current_sheet()
    scale = sheet.font / _STYLE["font.size"] if sheet else 1
    sizes = {name: scale * size for name, size in _STYLE.items() if name.endswith(("size", "width"))}
    with matplotlib.rc_context({**_STYLE, **sizes}):
        yield


def panels(
    rows: int,
    columns: int,
    title: str,
    subtitle: str,
    *,
    width: float = 2.9,
    height: float = 2.3,
    together: int = 1,
    **subplots,
) -> tuple[Figure, np.ndarray]:
    """A figure with a grid of panels; on a sheet (`layout.laid_out`), as large as that says.

    Args:
        rows: panels from top to bottom.
        columns: panels from left to right.
        title: what the figure is about.
        subtitle: the line below, such as the network; drawn as it is.
        width: of one panel, inches; more if there are few.
        height: of one panel, inches.
        together: on a sheet, so many columns next to each other stay in one line.
        subplots: passed on to `Figure.subplots`, such as sharey.

    Returns:
        The figure and its axes, [rows, columns].
    """
    if sheet := current_sheet():
        axes = sheet.subplots(rows, columns, width=width, height=height, together=together, **subplots)
        if sheet.title:
            _head(sheet.canvas, title, subtitle)
        return sheet.canvas.get_figure(root=True), axes
    across = max(0.6 + width * columns, 7.6)  # room for title and legend above and below a single column
    figure = Figure(figsize=(across, 1.1 + height * rows), layout="constrained")
    _head(figure, title, subtitle)
    return figure, figure.subplots(rows, columns, squeeze=False, **subplots)


def _head(figure: Figure | SubFigure, title: str, subtitle: str) -> None:
    """Write title and subtitle above the panels."""
    heading = figure.suptitle(title, x=0.01, ha="left")
    # Names are drawn as they are: two dollars in one are no formula.
    below = Annotation(
        drawable(subtitle), (0, 0), xycoords=heading, va="bottom", color=GREY, parse_math=False
    )
    below.set_in_layout(False)
    figure.add_artist(below)
    for text in (heading, below):
        wrap(text, 0.98 * figure.bbox.width)
    heading.set_text(heading.get_text() + "\n" * (1 + below.get_text().count("\n")))  # the subtitle's place


def drawable(name: str) -> str:
    """A name in the characters that the figures' font has: a square stands for each that it lacks."""
    glyphs = get_font(findfont("DejaVu Sans")).get_charmap()
    return "".join(
        character if ord(character) in glyphs else "\N{WHITE SQUARE}" for character in one_line(name)
    )


def strength_colours(strengths: Iterable[float]) -> dict[float, tuple]:
    """A colour for each strength, light (weak) to dark (strong)."""
    ordered = sorted(set(strengths))
    return dict(zip(ordered, sns.color_palette("flare", len(ordered)), strict=True))


def error_bars(axes: Axes, x: pd.Series, points: pd.DataFrame, deep: bool = False, /, **look) -> None:
    """Draw `points` (columns mean, low, high, n) at `x`; a single seed has no interval and gets no bar.

    Of a `deep` network, with more than `FEW_LAYERS`, marks and bars would hide each other: there is a line, and
    from `LEAST_SEEDS` on a band.
    """
    if deep:
        line = {"color": look["color"], "ls": look["fmt"].lstrip("o^s"), "zorder": look.get("zorder", 3)}
        axes.plot(x, points["mean"], lw=1.3, **line)
        if not points.empty and points["n"].min() >= LEAST_SEEDS:
            axes.fill_between(x, points["low"], points["high"], color=look["color"], alpha=0.25, lw=0)
        return
    below = (points["mean"] - points["low"]).fillna(0).to_numpy()
    above = (points["high"] - points["mean"]).fillna(0).to_numpy()
    axes.errorbar(x.to_numpy(), points["mean"].to_numpy(), yerr=[below, above], elinewidth=1.2, **look)


def ratio_axis(axes: Axes, ratios: pd.Series) -> None:
    """Scale the y axis for shift ratios: from 0 to a little above 1, further up if one is there."""
    axes.set_ylim(0, max(1.09, 1.05 * ratios.max()))
    if ratios.max() > 5:  # a network that fell apart must not flatten the others
        axes.set_yscale("log")
        axes.set_ylim(0.9 * ratios.min(), 1.1 * ratios.max())


def error_axis(axes: Axes, means: pd.Series) -> None:
    """Scale the y axis for error rates: logarithmic if they span more than a factor of 8."""
    lowest, highest = means.min(), means.max()
    if lowest > 0 and highest > 8 * lowest:
        axes.set_yscale("log")
        axes.set_ylim(lowest / 1.5, min(100, 1.5 * highest))
        axes.yaxis.set_major_locator(LogLocator(subs=[1, 2, 5]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, 1.15 * highest or 1)


def ticks_at(axis: Axis, values: Iterable[float]) -> None:
    """Mark these values and no others, as plain numbers, on whatever scale."""
    places = list(values)
    axis.set_ticks(places, labels=[f"{value:g}" for value in places])
    axis.set_ticks([], minor=True)


def layer_ticks(axes: Axes, layers: list[int]) -> None:
    """Number the BN layers on the x axis, with eight labels at most, so that they stay apart."""
    axes.set_xticks(layers[:: -(-len(layers) // 8)])


def note(axes: Axes, sentence: str) -> None:
    """Say in an empty panel why it is empty."""
    axes.text(0.5, 0.5, sentence, transform=axes.transAxes, ha="center", va="center", color=GREY)


def key(label: str, **look) -> Line2D:
    """An entry for a legend."""
    return Line2D([], [], label=label, **look)


def legend_below(
    figure: Figure, entries: Sequence[Artist], columns: int | None = None, title: str | None = None
) -> None:
    """One legend for all panels, below them, in as many columns as fit; below a single panel that was given."""
    sheet = current_sheet()
    below: Figure | SubFigure | Axes = sheet.canvas if sheet else figure
    look: dict[str, Any] = {"handles": list(entries), "title": title, "loc": "outside lower center"}
    if sheet and len(sheet.given) == 1:
        below = sheet.given[0]
        beneath = ScaledTranslation(0, -3.5 * sheet.font / 72, figure.dpi_scale_trans)  # numbers and label
        look |= {
            "loc": "upper center",
            "bbox_to_anchor": (0.5, 0),
            "bbox_transform": below.transAxes + beneath,
        }
    width = below.get_window_extent().width
    for across in range(columns or len(entries), 0, -1):
        legend = below.legend(ncols=across, **look)
        wrap(legend.get_title(), 0.96 * width)
        if across == 1 or legend.get_window_extent().width <= width:
            for text in legend.get_texts():
                wrap(text, 0.8 * width)
            return
        legend.remove()


def settle(figure: Figure) -> None:
    """Lay the panels out now, once for all files that the figure is written to: it takes as long as drawing.

    The solver's last digits change from run to run, and with them the bytes of an SVG: positions are rounded.
    """
    if engine := figure.get_layout_engine():
        with figure_style():
            engine.execute(figure)
    # With an engine, be it "none", matplotlib draws twice to write once.
    with matplotlib.rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)
    for panel in figure.axes:
        left, bottom, width, height = (round(float(value), 6) for value in panel.get_position().bounds)
        panel.set_position((left, bottom, width, height))


def svg_bytes(figure: Figure, editable: bool = False) -> bytes:
    """The figure as SVG, without dates and random names: equal figures give equal bytes.

    Text is drawn as outlines, the same everywhere; `editable` keeps it as text.
    """
    buffer = io.BytesIO()
    with figure_style(), matplotlib.rc_context({"svg.fonttype": "none" if editable else "path"}):
        figure.savefig(
            buffer, format="svg", dpi=200, metadata={"Date": None}
        )  # dpi: of what is rasterised in it
    # Two decimals of a point, 1/7200 inch, are enough for where something is; matplotlib writes six.
    places = re.compile(rb' (?:d|x|y)="[^"]*"')
    return places.sub(lambda place: re.sub(rb"(\.\d\d)\d+", rb"\1", place[0]), buffer.getvalue())


def pdf_bytes(figure: Figure, editable: bool = False) -> bytes:
    """The figure as PDF without a date, its fonts embedded: equal figures give equal bytes.

    Glyphs are outlines (Type 3); `editable` embeds TrueType fonts, which takes three times as long.
    """
    buffer = io.BytesIO()
    with figure_style(), matplotlib.rc_context({"pdf.fonttype": 42 if editable else 3}):
        figure.savefig(buffer, format="pdf", dpi=200, metadata={"CreationDate": None})
    return buffer.getvalue()


def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG, 160 dots an inch."""
    buffer = io.BytesIO()
    with figure_style():
        figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return buffer.getvalue()


def data_uri(svg: bytes) -> str:
    """An SVG as the value of an <img>'s src, in double quotes, so that a page needs no other file.

    A third smaller than base64. What HTML would escape is escaped as an address is, but for single quotes, which
    stand around attributes here.
    """
    text = re.sub(r"<!--.*?-->", "", svg.decode("utf-8"), flags=re.DOTALL)
    text = re.sub(r'="([^"\']*)"', r"='\1'", re.sub(r"\s*\n\s*", " ", text))
    return "data:image/svg+xml," + urllib.parse.quote(text, safe=" /:;,.()-=!?@*{}+'")
