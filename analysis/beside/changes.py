"""What noise and adjustment change in the test error, in a study and in the paper's bars: intervals over seeds."""

from collections.abc import Iterator, Sequence

import pandas as pd

from analysis.beside.setting import PaperStudy
from analysis.stats import Interval, mean_interval, paired_difference

NAME = ["dataset", "network"]


def members_of(
    study: PaperStudy, name: tuple[str, str], placement: str, noise: str, strength: float
) -> pd.DataFrame:
    """The members of one (dataset, network) with one noise, a row per seed."""
    members = study.members
    chosen = (members["dataset"] == name[0]) & (members["network"] == name[1]) & (members["noise"] == noise)
    return members[chosen & (members["placement"] == placement) & (members["strength"] == strength)]


def error_change(
    study: PaperStudy, name: tuple[str, str], placement: str, noise: str, strength: float
) -> Interval:
    """The change of the test error against no noise, in points, paired by seed."""
    errors = [
        members_of(study, name, *which).set_index("seed")["test_error"]
        for which in ((placement, noise, strength), ("none", "none", 0))
    ]
    return paired_difference(*errors)


def change_of_bar(bars: pd.DataFrame, cell: pd.Series) -> float:
    """The change of a published error bar of Figure 4 against its own baseline, in points.

    `bars` are those of `analysis.paper.error_rates`, `cell` says which: dataset, network, placement, strength.
    """
    here = bars[(bars["dataset"] == cell["dataset"]) & (bars["network"] == cell["network"])]
    bar = here[(here["placement"] == cell["placement"]) & (here["strength"] == cell["strength"])]["error"]
    baseline = here[(here["placement"] == "none") & (here["baseline_of"] == cell["placement"])]["error"]
    return float(bar.iloc[0] - baseline.iloc[0])


def gain_by_adjusting(members: pd.DataFrame) -> Interval:
    """How much lower the test error is after adjusting, in points: mean over networks, interval over seeds.

    Only seeds that every network has count, so that each is a mean over the same networks.
    """
    gain = members["test_error"] - members["test_error_adjusted"]
    by_seed = gain.groupby([members["seed"], members["dataset"], members["network"]]).mean().unstack("seed")
    return mean_interval(by_seed.dropna(axis="columns").mean())


def cells_with(
    study: PaperStudy, noise: str, strength: float, placements: Sequence[str]
) -> list[tuple[tuple[str, str], str]]:
    """Each (name, placement) of which the study has members, in the paper's order."""
    members = study.members[(study.members["noise"] == noise) & (study.members["strength"] == strength)]
    present = set(members[[*NAME, "placement"]].itertuples(index=False, name=None))
    return [(name, where) for where in placements for name in study.setting if (*name, where) in present]


def in_order(study: PaperStudy, table: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.Series]]:
    """The rows of a table in the paper's order of the networks that the study has."""
    for name in study.setting:
        for _, row in table[(table["dataset"] == name[0]) & (table["network"] == name[1])].iterrows():
            yield name, row
