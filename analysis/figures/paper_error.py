"""Beside figure 6: the error rates that the paper published, drawn like ours."""

import pandas as pd
from matplotlib.axes import Axes

from .. import paper
from ..select import placements_in, values_in, where
from . import style
from .drawing import Drawing

STRENGTH = 0.5  # the only one with adjusted errors (Table 3)
LOOK = {
    "as trained": {"marker": "o", "ls": "-"},
    "BN adjusted": {"marker": "o", "mfc": "white", "mew": 1.2, "ls": "", "zorder": 4},
    "Uout": {"marker": "^", "ls": "-", "lw": 1},
}

READING = (
    "Published test errors, top 1, means of 3 to 5 runs without a published spread: dropout at before_bn "
    "and before_weight from Figure 4, BN adjusted from Table 3, after_last_bn and the line without "
    "dropout from Table 4, Uout at before_weight from Table 6. Uout's beta shares the axis with the drop "
    "rate, as in the paper, although its noise is far weaker: beta 0.5 has the noise variance of drop "
    "rate 0.077."
)


def points_of() -> pd.DataFrame:
    """The published errors on CIFAR, each once; `series` is a key of LOOK."""
    rates = paper.error_rates()
    is_bar_again = (rates["table"] == "Table 3") & ~rates["adjusted"]  # Table 3 prints bars of Figure 4 again
    rates = rates[(rates["dataset"] != "ImageNet") & ~is_bar_again & (rates["placement"] != "none")]
    series = pd.Series("as trained", rates.index)
    series = series.mask(rates["adjusted"], "BN adjusted").mask(rates["noise"] == "uout", "Uout")
    return rates.assign(series=series)[["dataset", "network", "placement", "series", "strength", "error"]]


def baselines() -> pd.Series:
    """The published errors without dropout, by dataset and network (Table 4, all runs pooled)."""
    without = where(paper.error_rates(), table="Table 4", placement="none")
    return without.set_index(["dataset", "network"])["error"]


def draw() -> Drawing:
    """Draw the figure from the published values; it is the same for every study."""
    points, baseline = points_of(), baselines()
    datasets, networks = values_in(points, "dataset"), values_in(points, "network")
    source = "arXiv 1801.05134, Figure 4 and Tables 3, 4 and 6"
    with style.figure_style():
        shape = {"width": 2.5, "sharex": True, "sharey": "row"}
        figure, axes = style.panels(len(datasets), len(networks), "The paper's test errors", source, **shape)
        for row, dataset in enumerate(datasets):
            for column, network in enumerate(networks):
                axes[row, column].set_title(f"{dataset}, {network}")
                axes[row, column].axhline(baseline[dataset, network], color=style.GREY, lw=1)
                _draw_series(axes[row, column], where(points, dataset=dataset, network=network))
            axes[row, 0].set_ylabel("test error (%)")
        for panel in axes[-1]:
            panel.set_xlabel("drop rate, or Uout beta")
        axes[0, 0].set_xlim(0, 0.75)
        style.legend_below(figure, _legend(placements_in(points)), columns=4)
    drawn = pd.concat([points, baseline.reset_index().assign(series="no dropout")], ignore_index=True)
    return Drawing(figure, drawn, READING, _finding(points, baseline))


def _draw_series(panel: Axes, here: pd.DataFrame) -> None:
    for placement in placements_in(here):
        for series, look in LOOK.items():
            drawn = where(here, placement=placement, series=series).sort_values("strength")
            panel.plot(drawn["strength"], drawn["error"], color=style.PLACEMENT_COLOUR[placement], **look)


def _legend(placements: list[str]) -> list:
    return [
        *(style.key(name, color=style.PLACEMENT_COLOUR[name], lw=3) for name in placements),
        *(style.key(series, color=style.DARK, **look) for series, look in LOOK.items()),
        style.key("no dropout", color=style.GREY, lw=1),
    ]


def _finding(points: pd.DataFrame, baseline: pd.Series) -> str:
    at = where(points, strength=STRENGTH).set_index(["dataset", "network"])
    parts = []
    for placement in placements_in(at):
        error = where(at, placement=placement, series="as trained")["error"]
        gain = (where(at, placement=placement, series="BN adjusted")["error"] - error).dropna()
        cost = error - baseline
        said = f"{placement}: dropout {cost.min():+.2f} to {cost.max():+.2f}"
        parts.append(said + (f", adjustment {gain.min():+.2f} to {gain.max():+.2f}" if len(gain) else ""))
    return (
        f"Change of the test error in percentage points at drop rate {STRENGTH}, smallest to largest of the "
        f"8 networks: {'; '.join(parts)}."
    )
