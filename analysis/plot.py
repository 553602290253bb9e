"""One figure of a study, for a paper: `python -m analysis.plot outputs/STUDY shift_vs_rate --width 3.3`.

Every figure of the report by its name, at the size at which it is printed, from the members that are selected.
Beside each picture lie its points as CSV and its caption as text. `plot` is the same as a function.
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from .beside.setting import paper_study
from .command import PACKAGE, check_paths, exit_status
from .figures import CHARTS, CORE, PAPER_CHARTS, STUDY_CHARTS, style
from .figures.drawing import Drawing
from .figures.layout import LayoutError, Sheet, laid_out
from .figures.paper_charts import COMPARISONS
from .files import written_together
from .select import CannotAnswerError
from .selection import SelectionError, selected
from .tables import StudyError, read_study

OF_NETWORK = {chart.name: chart for chart in (CORE, *CHARTS)}
OF_STUDY = {chart.name: chart for chart in (*PAPER_CHARTS, *STUDY_CHARTS)}
OF_PAPER = {chart.name: chart for chart in COMPARISONS}
PUBLISHED = {chart.name for chart in PAPER_CHARTS}
CHART_OF = {**OF_NETWORK, **OF_STUDY, **OF_PAPER}
FORMATS: dict[str, Callable[[Figure], bytes]] = {
    "pdf": partial(style.pdf_bytes, editable=True),
    "svg": partial(style.svg_bytes, editable=True),
    "png": style.png_bytes,
}
SIZES = {"width": (1, 60), "height": (1, 60), "font": (3, 40)}  # allowed, inches and points

Draw = Callable[[], Drawing]


class PlotError(ValueError):
    """A figure that cannot be drawn as asked; the message is one line that says what is allowed."""


def plot(
    study: Path | str,
    chart: str,
    *selection: str,
    placement: str | None = None,
    axes: Axes | Sequence[Axes] | np.ndarray | Figure | SubFigure | None = None,
    width: float = Sheet.width,
    height: float | None = None,
    font: float = Sheet.font,
    title: bool = False,
) -> Figure:
    """Draw a figure of the report and return it, to be changed or saved.

    Args:
        study: the study's folder.
        chart: the figure's name, a key of `CHART_OF`.
        selection: COLUMN=VALUE[,VALUE ...], as on the command line.
        placement: short for placement=VALUE.
        axes: what to draw on, where a figure is there already: one Axes for a chart of a single panel, as many as
            the chart has panels, or an empty Figure or SubFigure with constrained layout, for any chart.
        width, height: inches, of a new figure; the height follows where it is None.
        font: size of the labels in points.
        title: whether title and subtitle stand above the panels.

    Returns:
        The figure, or the one that `axes` belongs to.

    Raises:
        StudyError, SelectionError, PlotError, CannotAnswerError: in one line, what cannot be drawn and why.
    """
    sheet = Sheet(width, height, font, title)
    if isinstance(axes, Figure | SubFigure):
        sheet.place = axes
    elif axes is not None:
        sheet.given = [axes] if isinstance(axes, Axes) else np.ravel(np.asarray(axes, object)).tolist()
    draws = _draws(Path(study), chart, _typed(selection, placement))
    if len(draws) > 1:
        raise PlotError(f"{chart} is drawn from one network; select one of: {'; '.join(draws)}")
    (draw,) = draws.values()
    return _draw_on(sheet, draw, chart).figure


def main(arguments: list[str] | None = None) -> int:
    """Write the figures; return the exit status, 2 if there is nothing to draw."""
    refused = (StudyError, SelectionError, PlotError, CannotAnswerError)
    return exit_status("plot", lambda: write_figures(arguments), *refused)


def write_figures(arguments: list[str] | None) -> int:
    """Write the figure that the arguments name, of each network that it is drawn from; return the exit status."""
    options = _parser().parse_intermixed_args(arguments)
    out = options.out or options.study / "figures"
    check_paths(options.study, out)
    formats = options.format.split(",")
    if unknown := [kind for kind in formats if kind not in FORMATS]:
        raise PlotError(f"--format {','.join(unknown)}: allowed is one or more of {', '.join(FORMATS)}")
    selection = _typed(options.selection, options.placement)
    draws = _draws(options.study, options.chart, selection)
    written, missing = [], []
    with written_together(out) as files:
        for network, draw in draws.items():
            name = _slug("-".join([network.lower()] * (len(draws) > 1) + [options.chart, *selection]))
            sheet = Sheet(options.width, options.height, options.font, options.title)
            try:
                drawing = _draw_on(sheet, draw, options.chart)
            except CannotAnswerError as reason:
                missing.append(f"{network}: {reason}" if len(draws) > 1 else str(reason))
                continue
            figure = drawing.figure
            style.settle(figure)
            files |= {f"{name}.{kind}": FORMATS[kind](figure) for kind in formats}
            files[f"{name}.csv"] = drawing.csv()
            question = CHART_OF[options.chart].question
            about = ", ".join([f"Study {options.study.resolve().name}", *filter(None, [network]), *selection])
            lines = [question, f"{about}.", drawing.finding, drawing.reading]
            files[f"{name}.txt"] = "\n\n".join(filter(None, lines)).encode() + b"\n"
            size = "{:.2f} x {:.2f} inches".format(*figure.get_size_inches())
            written.append(f"{out / name}.{{{','.join([*formats, 'csv', 'txt'])}}}, {size}")
        if not written:
            raise CannotAnswerError(" ".join(missing))
    for line in missing:
        print(f"plot: {line}", file=sys.stderr)
    for line in written:
        print(f"plot: {line}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {PACKAGE}.plot", description="Draw one figure of a study for a paper."
    )
    parser.add_argument("study", type=Path, help="the study's folder, for example outputs/variance_shift")
    parser.add_argument("chart", help=", ".join(CHART_OF))
    parser.add_argument(
        "selection",
        nargs="*",
        metavar="COLUMN=VALUE",
        help="only members with this value, or one of several with a comma between; those without noise stay",
    )
    parser.add_argument("--placement", help="short for placement=VALUE")
    parser.add_argument("--format", default="pdf", help=f"of {', '.join(FORMATS)}, with a comma between")
    parser.add_argument(
        "--width", type=float, default=Sheet.width, help="of the figure, inches (%(default)s)"
    )
    parser.add_argument("--height", type=float, help="of the figure, inches (default: as its panels need)")
    parser.add_argument("--font", type=float, default=Sheet.font, help="size of labels, points (%(default)s)")
    parser.add_argument(
        "--title", action=argparse.BooleanOptionalAction, default=False, help="title above the panels"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where to write (default: the folder figures inside the study)",
    )
    return parser


def _typed(selection: Sequence[str], placement: str | None) -> list[str]:
    return [*selection, *([f"placement={placement}"] if placement else [])]


def _draws(folder: Path, chart: str, selection: Sequence[str]) -> dict[str, Draw]:
    """What draws the chart from the members selected, by the name of the network, "" for the whole study."""
    if chart not in CHART_OF:
        raise PlotError(f"{chart}: no such figure; allowed: {', '.join(CHART_OF)}")
    study = read_study(folder)
    if selection and chart in PUBLISHED:
        raise PlotError(f"{' '.join(selection)}: {chart} draws published values, not members; select nothing")
    part = selected(study, selection).finished()
    if chart in OF_NETWORK:
        networks = {network.name: network for network in part.networks()}
        draws = {name: partial(OF_NETWORK[chart].draw, network) for name, network in networks.items()}
        if not draws:
            raise CannotAnswerError("No member of these has finished.")
        return draws
    if chart in OF_PAPER:
        return {"": partial(OF_PAPER[chart].draw, paper_study(part, folder))}
    return {"": partial(OF_STUDY[chart].draw, part)}


def _draw_on(sheet: Sheet, draw: Draw, chart: str) -> Drawing:
    """Draw on a sheet. Raises PlotError where its size is none, or the chart does not fit on the axes given."""
    for name, (least, most) in SIZES.items():
        if (size := getattr(sheet, name)) is not None and not least <= size <= most:
            raise PlotError(f"{name} {size:g}: allowed is {least} to {most}")
    try:
        with laid_out(sheet), style.figure_style():
            drawing = draw()
            sheet.fit()
    except LayoutError as error:
        raise PlotError(f"{chart}: {error}") from error
    return drawing


def _slug(name: str) -> str:
    """A name in characters that every file system, address and LaTeX take."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-")


if __name__ == "__main__":
    sys.exit(main())
