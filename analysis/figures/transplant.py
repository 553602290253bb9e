"""Figure 7: how much of the error that noise costs is variance shift, by transplant and by removal."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.error_shares import error_shares
from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.select import (
    CannotAnswerError,
    example_strength,
    of_one_family,
    placements_in,
    require,
    values_in,
    where,
)
from analysis.tables import Study

SHARES = {"transplant": style.DARK, "removal": "#b8b8b8"}  # quantity -> colour
OFFSETS = {"transplant": -0.19, "removal": 0.19}

READING = (
    "Dark: what it costs to give a network trained without noise the shift of its noisy twin (same seed), "
    "as a share of what the noise cost the twin. Light: what adjusting BN, which takes the shift away, wins"
    " back. If variance shift were the whole damage both would be 100 %. Bars are ratios of means over "
    "seeds, with Fieller's 95 % interval, cut at the panel's edge. Below each strength stands the damage "
    "itself in percentage points; where its interval holds 0 there is no share."
)


def draw(study: Study) -> Drawing:
    """Draw the figure from one network's finished members."""
    noise, members = of_one_family(study.members)
    baseline = where(study.members, noise="none")
    points = require(
        error_shares(pd.concat([baseline, members])),
        "finished noisy member with a noise-free twin of its seed",
    )
    if where(points, quantity="transplant")["mean"].isna().all():
        raise CannotAnswerError("This study has no transplants (test_error_transplanted is empty).")
    placements, widths = placements_in(points), values_in(points, "width")
    with style.figure_style():
        title = "How much of the damage is variance shift?"
        figure, axes = style.panels(len(widths), len(placements), title, study.name, width=3, sharey=True)
        for row, width in enumerate(widths):
            for column, placement in enumerate(placements):
                panel = axes[row, column]
                panel.set_title(f"{placement}, width {width}")
                _draw_panel(panel, where(points, placement=placement, width=width))
            axes[row, 0].set_ylabel("share of the damage (%)")
        for panel in axes[-1]:
            panel.set_xlabel(f"{style.STRENGTH_LABEL[noise]}, and below it the damage (points)")
        axes[0, 0].set_ylim(-60, 130)
        style.legend_below(figure, [style.key(name, color=colour, lw=7) for name, colour in SHARES.items()])
    return Drawing(figure, points, READING, _finding(points, style.STRENGTH_LABEL[noise]))


def _draw_panel(panel: Axes, here: pd.DataFrame) -> None:
    if here.empty:
        style.note(panel, "not in this study")
        return
    gaps = where(here, quantity="gap")
    places = np.arange(len(gaps), dtype=float)
    panel.set_xticks(places, [f"{s:.2g}\n{gap:+.1f}" for s, gap in gaps[["strength", "mean"]].to_numpy()])
    panel.axhline(0, color=style.GREY, lw=0.9)
    panel.axhline(100, **style.NOMINAL_LINE)
    for quantity, colour in SHARES.items():
        bars = where(here, quantity=quantity)
        share = 100 * bars[["share", "share_low", "share_high"]].to_numpy()
        x = places + OFFSETS[quantity]
        panel.bar(x, share[:, 0], width=0.36, color=colour, lw=0, zorder=2)
        known = ~np.isnan(share[:, 0])
        panel.vlines(x[known], share[known, 1], share[known, 2], color=style.GREY, lw=1.3, zorder=3)
    for place, unknown in zip(places, where(here, quantity="removal")["share"].isna(), strict=True):
        if unknown:
            panel.text(place, 6, "no clear\ndamage", ha="center", color=style.GREY, fontsize=7)
    panel.set_xlim(-0.6, len(gaps) - 0.4)
    panel.grid(axis="x", visible=False)


def _finding(points: pd.DataFrame, label: str) -> str:
    strength = example_strength(points["strength"])
    parts = []
    for placement in placements_in(points):
        here = where(points, placement=placement)
        known = where(here, quantity="transplant").dropna(subset=["share"])
        if known.empty:
            parts.append(f"{placement}: at no strength and width is there clear damage to explain")
            continue
        # The case asked about if there is one, else the strongest with clear damage; the narrowest network.
        at = known[known["strength"] == strength] if (known["strength"] == strength).any() else known
        row = at.sort_values(["strength", "width"], ascending=[False, True]).iloc[0]
        case = where(here, width=row["width"], strength=row["strength"])
        gap = where(case, quantity="gap").iloc[0]
        shares = ", ".join(f"{name} {_percent(where(case, quantity=name).iloc[0])}" for name in SHARES)
        parts.append(
            f"{placement}, {label} {row['strength']:g}, width {row['width']}: damage {gap['mean']:+.1f} "
            f"[{gap['low']:+.1f}, {gap['high']:+.1f}] points, of which {shares}"
        )
    return "; ".join(parts) + "."


def _percent(row: pd.Series) -> str:
    share, low, high = (100 * row[name] for name in ("share", "share_low", "share_high"))
    return f"{share:.0f} % [{low:.0f}, {high:.0f}]"
