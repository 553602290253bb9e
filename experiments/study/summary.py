"""What a run prints at its end: the study in one short table, and how many members came through."""

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text
from scipy.special import stdtrit

from analysis.schema import NETWORK, PLACEMENTS
from analysis.theory.noises import FAMILIES, NO_NOISE, family

KIND = ["placement", "noise", "strength"]
ORDER = {word: place for place, word in enumerate([NO_NOISE.name, *PLACEMENTS, *FAMILIES])}
LEAST_SEEDS = 3  # two give an interval 13 standard errors wide on either side, which says nothing
LONGEST = 20  # rows; a longer table leaves families of noise out, which the report shows
HEADINGS = {
    "shift_ratio": "shift\nratio",
    "local_ratio": "local",
    "local_ratio_exact": "exact\nlaw",
    "ratio_paper": "Eq\n8/12",
    "test_error": "test\nerror %",
    "test_error_adjusted": "adjusted\n%",
}


def print_summary(members: pd.DataFrame, layers: pd.DataFrame) -> None:
    """Print a study's two tables as one: measured beside the formulas, per placement, noise and strength."""
    means = summary_means(members, layers)
    kept = shortened(means)
    console = Console(highlight=False)
    console.print(
        "Means over widths, seeds and the BN layers with noise of their own (all, where none has any), ± 95 % "
        "over seeds. shift ratio: variance at test / variance stored by BN. local: by the layer's own noise "
        "alone; exact law and the paper's Eq 8 or 12: for that, at the measured moments."
    )
    console.print(summary_lines(kept))
    if left_out := len(means) - len(kept):
        console.print(
            f"and {left_out} rows of {', '.join(sorted(set(means.noise) - set(kept.noise)))}: see the report"
        )
    counts = members.status.value_counts()
    console.print(", ".join(f"{count} members {status}" for status, count in counts.items()))


def summary_means(members: pd.DataFrame, layers: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each kind of noise, the baseline first, and for each network where the study varies it.

    Columns: those that say which, and each of HEADINGS, a mean over all that is not said; NAME_high is the upper
    end of its 95 % interval over seeds, by Student's t, from three seeds on. All ratios are over the same layers,
    those with noise of their own (all, where none has any); `ratio_paper` is nan where it says nothing of one.
    Members that did not finish have no measurements.
    """
    keys = [*(column for column in NETWORK if members[column].nunique() > 1), *KIND]
    layers = layers[layers.local_ratio.notna() | layers.placement.isin(["none", "after_last_bn"])]
    said = layers.assign(said=layers.ratio_paper.notna()).groupby(keys, dropna=False).said
    layers = layers.assign(ratio_paper=layers.ratio_paper.where(said.transform("all")))
    means = members.groupby(keys, dropna=False).size().rename("members").to_frame()
    for name in HEADINGS:
        table = members if name in members else layers
        seeds = table.dropna(subset=[name]).groupby([*keys, "seed"], dropna=False)[name].mean()
        over_seeds = seeds.groupby(level=keys, dropna=False)
        mean, count = over_seeds.mean(), over_seeds.count()
        means[name] = mean
        if name in ("shift_ratio", "test_error"):
            half = stdtrit(count - 1, 0.975) * over_seeds.std() / count**0.5
            means[f"{name}_high"] = mean + half.where(count >= LEAST_SEEDS)
    in_order = lambda column: column.map(ORDER) if column.name in KIND[:2] else column  # noqa: E731
    return means.reset_index().sort_values(keys, key=in_order, ignore_index=True)


def shortened(means: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the first families of noise, as many families as fit; dropout comes first."""
    kept = means
    for noise in reversed(FAMILIES):
        if len(kept) > LONGEST and set(kept.noise) > {"none", noise}:
            kept = kept[kept.noise != noise]
    return kept


def summary_lines(means: pd.DataFrame) -> Table:
    """Return the table as it is printed, narrow enough for 80 columns."""
    names = list(means.columns)
    kept_apart = names[: names.index("placement")]
    table = Table(*kept_apart, "placement", "noise", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in HEADINGS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for row in means.to_dict("records"):
        noise = row["noise"] if row["noise"] == "none" else family(row["noise"]).label(row["strength"])
        table.add_row(
            *(str(row[name]) for name in kept_apart),
            row["placement"],
            noise,
            *(Text(_number(row, name)) for name in HEADINGS),
        )
    return table


def _number(row: dict, name: str) -> str:
    """Return a mean, with half the width of its interval where there is one; nothing for nan."""
    value, high = row[name], row.get(f"{name}_high")
    decimals = 1 if name.startswith("test_error") else 3
    if value != value:  # nan differs from itself
        return ""
    # An interval of a single seed is nan too.
    interval = f" ±{high - value:.{decimals}f}" if high is not None and high == high else ""
    return f"{value:.{decimals}f}{interval}"
