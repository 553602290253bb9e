"""What a run prints at its end: the study in one short table, and how many members came through."""

from collections.abc import Iterator

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
    "test_error_adjusted": "adj.\n%",
}
INTERVALS = ("shift_ratio", "test_error")
LEAST_WIDTH = {
    "shift_ratio": 13,
    "local_ratio": 5,
    "local_ratio_exact": 5,
    "ratio_paper": 5,
    "test_error": 10,
}
WIDTH = 80  # columns of a terminal


def print_summary(members: pd.DataFrame, layers: pd.DataFrame) -> None:
    """Print a study's two tables as one: measured beside the formulas, per placement, noise and strength."""
    means = summary_means(members, layers)
    kept = shortened(means)
    console = Console(highlight=False, width=WIDTH)
    console.print(
        "Means over widths, seeds and the BN layers with noise of their own (all, where none has any), ± 95 % "
        "over seeds. shift ratio: variance at test / variance stored by BN. local: by the layer's own noise "
        "alone; exact law and the paper's Eq 8 or 12: for that, at the measured moments. adj.: test error after "
        "BN adjustment."
    )
    varied = list(means.columns[: means.columns.get_loc("placement")])
    for network, rows in kept.groupby(varied, sort=False, dropna=False) if varied else [((), kept)]:
        if varied:
            console.print(
                "\n" + ", ".join(f"{name} {value}" for name, value in zip(varied, network, strict=True))
            )
        console.print(summary_lines(rows))
    for line in remarks(means, kept, members):
        console.print(line)


def remarks(means: pd.DataFrame, kept: pd.DataFrame, members: pd.DataFrame) -> Iterator[str]:
    """What the table leaves out, does not decide, or lacks, a line each."""
    if left_out := len(means) - len(kept):
        yield f"and {left_out} rows of {', '.join(sorted(set(means.noise) - set(kept.noise)))}: see the report"
    if kept[[f"{name}_undecided" for name in INTERVALS]].any(axis=None):
        yield (
            "? undecided: the interval of the ratio holds 1, or that of the error's difference to no noise, seed "
            "by seed, holds 0. More seeds tell."
        )
    if members.seed.nunique() < LEAST_SEEDS:
        yield f"Fewer than {LEAST_SEEDS} seeds give no intervals; members.seed=[0,1,2,3,4] would."
    counts = members.status.value_counts()
    yield ", ".join(f"{count} members {status}" for status, count in counts.items())


def summary_means(members: pd.DataFrame, layers: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each kind of noise, the baseline first, and for each network where the study varies it.

    Columns: those that say which, members and left_out (of these, how many did not finish), and each of HEADINGS,
    a mean over all that is not said. Of INTERVALS, NAME_high is the upper end of the 95 % interval over seeds, by
    Student's t, from three seeds on, and NAME_undecided whether it holds 1 (a ratio), or the interval of the
    difference to no noise holds 0 (an error). All ratios are over the same layers, those with noise of their own
    (all, where none has any); `ratio_paper` is nan where it says nothing of one. Members that did not finish have
    no measurements.
    """
    varied = [column for column in NETWORK if members[column].nunique() > 1]
    keys = [*varied, *KIND]
    layers = layers[layers.local_ratio.notna() | layers.placement.isin(["none", "after_last_bn"])]
    said = layers.assign(said=layers.ratio_paper.notna()).groupby(keys, dropna=False).said
    layers = layers.assign(ratio_paper=layers.ratio_paper.where(said.transform("all")))
    means = members.groupby(keys, dropna=False).size().rename("members").to_frame()
    means["left_out"] = members.status.ne("ok").groupby([members[key] for key in keys], dropna=False).sum()
    for name in HEADINGS:
        table = members if name in members else layers
        seeds = table.dropna(subset=[name]).groupby([*keys, "seed"], dropna=False)[name].mean()
        means[name] = seeds.groupby(level=keys, dropna=False).mean()
        if name in INTERVALS:
            means[f"{name}_high"] = means[name] + _half_width(seeds, keys)
            change = seeds - 1 if name == "shift_ratio" else _change(seeds, varied)
            size = change.groupby(level=keys, dropna=False).mean().abs()
            means[f"{name}_undecided"] = size <= _half_width(change, keys)
    means = means.astype({f"{name}_undecided": bool for name in INTERVALS})
    in_order = lambda column: column.map(ORDER) if column.name in KIND[:2] else column  # noqa: E731
    return means.reset_index().sort_values(keys, key=in_order, ignore_index=True)


def _half_width(seeds: pd.Series, keys: list[str]) -> pd.Series:
    """Half the width of the 95 % interval over seeds, by Student's t; nan for fewer than three."""
    groups = seeds.groupby(level=keys, dropna=False)
    count = groups.count()
    return (stdtrit(count - 1, 0.975) * groups.std() / count**0.5).where(count >= LEAST_SEEDS)


def _change(seeds: pd.Series, varied: list[str]) -> pd.Series:
    """What the noise adds, seed by seed, in the same network; of no noise, and without it, nan."""
    table = seeds.rename("error").reset_index()
    without = table[table.noise == NO_NOISE.name].drop(columns=KIND)
    both = table.merge(without, how="left", on=[*varied, "seed"], suffixes=("", "_without"))
    change = (both.error - both.error_without).where(both.noise != NO_NOISE.name)
    return pd.Series(change.to_numpy(), seeds.index, dtype=float)


def shortened(means: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the first families of noise, as many families as fit; dropout comes first."""
    kept = means
    for noise in reversed(FAMILIES):
        if len(kept) > LONGEST and set(kept.noise) > {"none", noise}:
            kept = kept[kept.noise != noise]
    return kept


def summary_lines(means: pd.DataFrame) -> Table:
    """Return the rows of one network as they are printed, narrow enough for 80 columns."""
    table = Table("placement", "noise", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name, heading in HEADINGS.items():
        table.add_column(heading, justify="right", no_wrap=True, min_width=LEAST_WIDTH.get(name))
    if means.left_out.any():
        table.add_column("left\nout", justify="right")
    for row in means.to_dict("records"):
        noise = row["noise"] if row["noise"] == "none" else family(row["noise"]).label(row["strength"])
        cells = [Text(_number(row, name)) for name in HEADINGS]
        cells += [f"{row['left_out']}/{row['members']}" if row["left_out"] else ""] * bool(
            means.left_out.any()
        )
        table.add_row(f"{row['placement']:13}", f"{noise:11}", *cells)
    return table


def _number(row: dict, name: str) -> str:
    """Return a mean, with half the width of its interval and a mark where there are; nothing for nan."""
    value, high = row[name], row.get(f"{name}_high")
    decimals = 1 if name.startswith("test_error") else 3
    if value != value:  # nan differs from itself
        return ""
    # An interval of a single seed is nan too.
    interval = f" ±{high - value:.{decimals}f}" if high is not None and high == high else ""
    return f"{'?' * bool(row.get(f'{name}_undecided'))}{value:.{decimals}f}{interval}"
