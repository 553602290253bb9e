"""The measured quantities of the paper's figures and tables, in the form in which the paper's own are kept.

Layers and convolutions, means over them, what noise and adjustment change in the test error, and the contrasts of
Figure 4; intervals are over seeds.
"""

from collections.abc import Iterator, Sequence

import pandas as pd

from .. import paper
from ..schema import PLACEMENTS
from ..select import where
from ..stats import Interval, mean_interval, over_seeds, paired_difference, per_seed
from ..theory import shift_magnitude
from .setting import PaperStudy, names_in

NAME = ["dataset", "network"]
CELL = [*NAME, "placement", "strength"]
DISCUSSED_RATE = 0.5  # the drop rate that the paper discusses
PAPER_PLACEMENTS = {
    "before_bn": "(a) before_bn",
    "before_weight": "(b) before_weight",
}  # with the paper's letters


def measured_layers(study: PaperStudy) -> pd.DataFrame:
    """The measured layers of dropout members at the paper's two placements, the baseline under both.

    Columns: those of layers.csv and `depth`, relative: 0 for a network's first BN layer, 1 for its last.
    """
    layers = study.layers[study.layers["noise"].isin(["none", "dropout"])]
    baseline = layers[layers["noise"] == "none"]
    noisy = layers[layers["placement"].isin(["before_bn", "before_weight"])]
    both = [
        baseline.assign(placement=placement)
        for placement in [name for name in PLACEMENTS if (noisy["placement"] == name).any()]
    ]
    layers = pd.concat([*both, noisy], ignore_index=True)
    deepest = layers.groupby(NAME)["layer_index"].transform("max")
    return layers.assign(
        depth=((layers["layer_index"] - 1) / (deepest - 1).clip(lower=1)).astype(float),
        shift_magnitude=shift_magnitude(layers["shift_ratio"]),
    )


def mean_magnitudes(study: PaperStudy) -> pd.DataFrame:
    """Mean shift magnitude over a network's BN layers, measured and published, for what both have.

    A row per dataset, network, placement and strength: `mean`, `low`, `high`, `n` (ours, over seeds), `published`
    (one model), `clipped` (how many of the paper's BN layers are lower bounds).
    """
    layers = measured_layers(study)
    ours = over_seeds(layers, "shift_magnitude", CELL)
    theirs = paper.figure4_mean_magnitude().rename(
        columns={"drop_ratio": "strength", "mean_magnitude": "published"}
    )
    return ours.merge(theirs, on=CELL)


def measured_convolutions(study: PaperStudy) -> pd.DataFrame:
    """The convolutions of networks trained without noise: `depth` (relative), `fan_in`, `cos2`, `d_cos2`."""
    layers = study.layers[study.layers["noise"] == "none"].dropna(subset=["cos2"])
    deepest = layers.groupby(NAME)["layer_index"].transform("max")
    depth = (layers["layer_index"] - 1) / (deepest - 1).clip(lower=1)
    return layers.assign(depth=depth.astype(float))


def means_of_table1(study: PaperStudy) -> pd.DataFrame:
    """Table 1, measured and published: a row per dataset, network and `quantity` (mean_cos2, mean_d_cos2).

    Columns: `mean`, `low`, `high`, `n` (ours, over seeds; layers are averaged within a seed), `published`.
    """
    layers = measured_convolutions(study)
    quantities = {"mean_cos2": "cos2", "mean_d_cos2": "d_cos2"}
    ours = [
        over_seeds(layers, column, NAME).assign(quantity=quantity) for quantity, column in quantities.items()
    ]
    theirs = paper.paper_values().query("table_or_figure == 'Table 1'")
    theirs = theirs[[*NAME, "quantity", "value"]].rename(columns={"value": "published"})
    return pd.concat(ours, ignore_index=True).merge(theirs, on=[*NAME, "quantity"])


def members_of(
    study: PaperStudy, name: tuple[str, str], placement: str, noise: str, strength: float
) -> pd.DataFrame:
    """The members of one (dataset, network) with one noise, a row per seed."""
    members = study.members
    is_cell = (members["dataset"] == name[0]) & (members["network"] == name[1]) & (members["noise"] == noise)
    return members[is_cell & (members["placement"] == placement) & (members["strength"] == strength)]


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
    return [
        (name, placement)
        for placement in placements
        for name in study.setting
        if (*name, placement) in present
    ]


def in_order(study: PaperStudy, table: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.Series]]:
    """The rows of a table in the paper's order of the networks that the study has."""
    for name in study.setting:
        for _, row in table[(table["dataset"] == name[0]) & (table["network"] == name[1])].iterrows():
            yield name, row


def placement_contrast(study: PaperStudy) -> pd.DataFrame:
    """Mean shift magnitude before_bn less that before_weight, drop rate 0.5, paired by seed.

    A row per dataset and network that has both: `ours` (an Interval), `published`.
    """
    rows = []
    for name, ours, theirs in _layers_of_both(study):
        magnitudes = [
            per_seed(where(ours, placement=placement), "shift_magnitude", [])
            for placement in PAPER_PLACEMENTS
        ]
        if all(len(values) for values in magnitudes):
            means = theirs.groupby("placement")["shift_magnitude"].mean()
            published = means["before_bn"] - means["before_weight"]
            rows.append([*name, paired_difference(*magnitudes), published])
    return pd.DataFrame(rows, columns=[*NAME, "ours", "published"])


def depth_contrast(study: PaperStudy) -> pd.DataFrame:
    """Mean shift magnitude of the deeper half of a network's BN layers less that of the other half, drop rate 0.5.

    A row per dataset, network and placement: `ours` (an Interval over seeds), `published`.
    """
    rows = []
    for name, ours, theirs in _layers_of_both(study):
        for placement in PAPER_PLACEMENTS:
            here = where(ours, placement=placement)
            if len(here):
                parts = (here["depth"] >= 0.5, here["depth"] < 0.5)
                halves = [per_seed(here[part], "shift_magnitude", []) for part in parts]
                there = where(theirs, placement=placement)
                deep = there["depth"] >= 0.5
                published = there[deep]["shift_magnitude"].mean() - there[~deep]["shift_magnitude"].mean()
                rows.append([*name, placement, paired_difference(*halves), published])
    return pd.DataFrame(rows, columns=[*NAME, "placement", "ours", "published"])


def _layers_of_both(study: PaperStudy) -> Iterator[tuple[tuple[str, str], pd.DataFrame, pd.DataFrame]]:
    """Each name that both have, with our layers and the paper's at drop rate `DISCUSSED_RATE`."""
    measured = where(measured_layers(study), strength=DISCUSSED_RATE)
    published = where(paper.published_layers(paper.figure4()), strength=DISCUSSED_RATE)
    for name in names_in(measured):
        ours, theirs = (
            table[(table["dataset"] == name[0]) & (table["network"] == name[1])]
            for table in (measured, published)
        )
        if len(theirs):
            yield name, ours, theirs
