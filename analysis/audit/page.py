"""The audit as files: the table, the figure of the shift per layer, and one page that needs no other file."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..figures import style
from ..files import written_together
from ..render import render
from .explain import diagnosis
from .shown import short_table

TEMPLATE = Path(__file__).parent / "audit_page.html.j2"

_ALARM = "#d55e00"
_CAUSE_LOOK = {
    "noise": ("#d55e00", "o"),
    "branch": ("#56b4e9", "v"),
    "lag": ("#0072b2", "s"),
    "upstream": ("#009e73", "^"),
    "data": ("#cc6699", "D"),
}


def write_files(
    table: pd.DataFrame, out: Path, title: str, comparison: pd.DataFrame | None = None, metric: str = ""
) -> list[Path]:
    """Write audit.csv, audit.png, audit.svg and audit.html to the folder `out`, all or none; return their paths.

    Args:
        table: from `audit`.
        out: made if it is missing.
        title: what was audited.
        comparison: from `compare`, of the metric that is called `metric`; None leaves it out.

    Raises OSError if the folder cannot be written.
    """
    with written_together(out) as files:
        figure = plot(table, title)
        style.settle(figure)
        svg = style.svg_bytes(figure)
        files |= {
            "audit.csv": table.to_csv(index=False).encode(),
            "audit.png": style.png_bytes(figure),
            "audit.svg": svg,
            "audit.html": _html(table, title, svg, comparison, metric).encode(),
        }
    return [out / name for name in files]


def plot(table: pd.DataFrame, title: str = "") -> Figure:
    """Draw the shift of every BN layer in depth order, like the paper's Figure 1, with the causes below."""
    with style.figure_style():
        figure, grid = style.panels(
            2,
            1,
            "Variance shift per BN layer",
            title,
            width=max(7.0, 0.16 * len(table)),
            height=2.5,
            sharex=True,
        )
        above, below = grid[:, 0]
        depth = table["layer_index"]
        above.axhline(1, **style.NOMINAL_LINE)
        above.fill_between(
            depth, table["shift_ratio_low"], table["shift_ratio_high"], color=style.DARK, alpha=0.15, lw=0
        )
        above.plot(depth, table["shift_ratio"], "o-", color=style.DARK, label="shift, 95 % interval")
        above.plot(depth, table["local_ratio"], "o", mfc="none", color=style.GREY, label="local")
        above.plot(depth, table["local_ratio_exact"], "x", color=style.GREY, label="local, exact law")
        if table["shift_ratio_predicted"].notna().any():
            above.plot(depth, table["shift_ratio_predicted"], "+", ms=8, color=style.GREY, label="closure")
        off = table[table["alarm"] != ""]
        above.plot(off["layer_index"], off["shift_ratio"], "o", color=_ALARM, label="alarm")
        below.axhline(1, **style.NOMINAL_LINE)
        for cause, (colour, marker) in _CAUSE_LOOK.items():
            ratios = table[f"{cause}_ratio"]
            if ratios.notna().any():
                below.plot(depth, ratios, f"{marker}-", color=colour, ms=4.5, alpha=0.85, label=cause)
        _finish(above, "eval / stored variance")
        _finish(below, "causes, as factors")
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
        below.set_xlabel("BN layer, from shallow to deep")
        return figure


def _finish(axes: Axes, label: str) -> None:
    axes.set_ylabel(label)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.8), max(high, 1.25))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}" if max(high, 1.25) / min(low, 0.8) < 8 else "")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _html(table: pd.DataFrame, title: str, svg: bytes, comparison: pd.DataFrame | None, metric: str) -> str:
    return render(
        TEMPLATE,
        title=title,
        diagnosis=diagnosis(table),
        image=style.data_uri(svg),
        table=short_table(table),
        comparison=comparison,
        metric=metric,
    )
