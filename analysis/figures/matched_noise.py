"""Figure 8: the noise families at equal noise variance: is one better, or only quieter?"""

import pandas as pd
from matplotlib.axes import Axes

from ..select import (
    CannotAnswerError,
    behind_noise,
    noises_in,
    placements_in,
    require,
    where,
)
from ..stats import mean_interval, over_seeds, per_seed
from ..tables import Study
from . import style
from .drawing import Drawing

QUANTITIES = {  # column -> title, unit
    "local_ratio": ("local shift", style.RATIO_LABEL),
    "shift_ratio": ("cumulative shift", style.RATIO_LABEL),
    "test_error": ("test error", "test error (%)"),
}
OF_MEMBERS = ["test_error"]
DIGITS = 2  # noise variances that agree to so many significant digits are equal

READING = (
    "Each point is the mean over BN layers with noise of their own, widths and seeds, with its 95 % "
    "interval, at noise variances that two families or more share; points of equal variance stand side by "
    "side. Of the local shift theory says that only the variance of the noise matters, once the moments are "
    "equal; families train to other moments. Of the cumulative shift and of errors it says no such thing: "
    "behind a ReLU the law of the noise counts as well as its variance. The grey band is the network without "
    "noise."
)


def matched(table: pd.DataFrame) -> pd.DataFrame:
    """The rows at noise variances that at least two families share, with the rounded variance as `matched`."""
    noisy = table[table["noise"] != "none"]
    variance = noisy["noise_variance"].map(lambda value: float(f"{value:.{DIGITS}g}"))
    noisy = noisy.assign(matched=variance)
    families = noisy.groupby(["placement", "matched"])["noise"].transform("nunique")
    return noisy[families > 1]


def draw(study: Study) -> Drawing:
    """Draw the figure from one network's finished members."""
    members, layers = matched(study.members), matched(behind_noise(study.layers))
    require(layers, "noise variance that two noise families share (+sweep=matched_noise has four)")
    tables = {name: members if name in OF_MEMBERS else layers for name in QUANTITIES}
    by = ["placement", "noise", "matched"]
    points = pd.concat(
        [over_seeds(table, name, by).assign(quantity=name) for name, table in tables.items()],
        ignore_index=True,
    )
    placements = placements_in(points)
    if not placements:
        raise CannotAnswerError("This study has no measured shift at equal noise variances.")
    without = over_seeds(where(study.members, noise="none"), "test_error", ["placement", "noise"])
    points = pd.concat([points, without.assign(quantity="test_error")], ignore_index=True)
    with style.figure_style():
        title = "Noise families at equal noise variance"
        figure, axes = style.panels(len(placements), len(QUANTITIES), title, study.name)
        for row, placement in enumerate(placements):
            for column, (quantity, (what, unit)) in enumerate(QUANTITIES.items()):
                panel = axes[row, column]
                panel.set(title=f"{placement}, {what}", ylabel=unit, xlabel=r"noise variance $\sigma^2$")
                _draw_panel(panel, where(points, placement=placement, quantity=quantity))
            for mean, low, high in without[["mean", "low", "high"]].to_numpy():
                axes[row, -1].axhline(mean, color=style.GREY, lw=1)
                axes[row, -1].axhspan(low, high, color=style.GREY, alpha=0.18, lw=0)
        families = noises_in(points)
        style.legend_below(figure, [style.key(n, color=style.NOISE_COLOUR[n], marker="o") for n in families])
    return Drawing(figure, points, READING, _finding(tables, families))


def _draw_panel(panel: Axes, here: pd.DataFrame) -> None:
    if here.empty:
        style.note(panel, "not in this study")
        return
    variances = sorted(here["matched"].unique())
    place = {variance: index for index, variance in enumerate(variances)}
    panel.set_xticks(range(len(variances)), [f"{variance:g}" for variance in variances])
    for index, noise in enumerate(noises_in(here)):
        points = where(here, noise=noise)
        x = points["matched"].map(place) + 0.12 * (index - 1)
        style.error_bars(panel, x, points, fmt="o-", color=style.NOISE_COLOUR[noise], ms=4.5, lw=1)


def _finding(tables: dict[str, pd.DataFrame], families: list[str]) -> str:
    """The largest paired difference to dropout over placements and variances, for each other family."""
    first, sentences = families[0], []
    for other in families[1:]:
        parts = []
        for quantity, table in tables.items():
            keys = ["placement", "matched"]
            pair = [per_seed(where(table, noise=noise), quantity, keys) for noise in (other, first)]
            difference = (pair[0] - pair[1]).dropna()
            mean = mean_interval(difference.groupby("seed").mean())
            if not mean.n:
                continue
            clear = [
                place
                for place, values in difference.groupby(keys)
                if (interval := mean_interval(values)).low > 0 or interval.high < 0
            ]
            unit = " points" if quantity in OF_MEMBERS else ""
            interval = f" [{mean.low:+.3f}, {mean.high:+.3f}]" if mean.n > 1 else ""
            parts.append(
                f"{QUANTITIES[quantity][0]} {mean.mean:+.3f}{interval}{unit} "
                f"({len(clear)} of {difference.groupby(keys).ngroups} cases differ)"
            )
        sentences.append(
            f"{other} minus {first} at equal noise variance, paired over seeds: {', '.join(parts)}"
        )
    return "; ".join(sentences) + "."
