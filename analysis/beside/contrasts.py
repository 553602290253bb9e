"""Two questions to Figure 4, ours and the paper's: does (a) shift more than (b), do deeper layers shift more?"""

import pandas as pd

from analysis import paper
from analysis.beside.measured import measured_layers, published_layers
from analysis.beside.setting import PaperStudy, names_in
from analysis.select import where
from analysis.stats import Interval, paired_difference, per_seed

STRENGTH = 0.5  # the drop rate that the paper discusses
PLACEMENTS = {"before_bn": "(a) before_bn", "before_weight": "(b) before_weight"}


def placement_contrast(study: PaperStudy) -> pd.DataFrame:
    """Mean shift magnitude before_bn less that before_weight, drop rate 0.5, paired by seed.

    A row per dataset and network that has both: `ours` (an Interval), `published`.
    """
    rows = []
    for name, ours, theirs in _layers(study):
        placed = [
            per_seed(where(ours, placement=placement), "shift_magnitude", []) for placement in PLACEMENTS
        ]
        if all(len(values) for values in placed):
            means = theirs.groupby("placement")["shift_magnitude"].mean()
            published = means["before_bn"] - means["before_weight"]
            rows.append([*name, paired_difference(*placed), published])
    return pd.DataFrame(rows, columns=["dataset", "network", "ours", "published"])


def depth_contrast(study: PaperStudy) -> pd.DataFrame:
    """Mean shift magnitude of the deeper half of a network's BN layers less that of the other half, drop rate 0.5.

    A row per dataset, network and placement: `ours` (an Interval over seeds), `published`.
    """
    rows = []
    for name, ours, theirs in _layers(study):
        for placement in PLACEMENTS:
            here = where(ours, placement=placement)
            if len(here):
                parts = (here["depth"] >= 0.5, here["depth"] < 0.5)
                halves = [per_seed(here[part], "shift_magnitude", []) for part in parts]
                there = where(theirs, placement=placement)
                deep = there["depth"] >= 0.5
                published = there[deep]["shift_magnitude"].mean() - there[~deep]["shift_magnitude"].mean()
                rows.append([*name, placement, paired_difference(*halves), published])
    return pd.DataFrame(rows, columns=["dataset", "network", "placement", "ours", "published"])


def sentences(study: PaperStudy) -> str:
    """Both answers in words."""
    parts = []
    placements = placement_contrast(study)
    if len(placements):
        parts.append(
            f"At drop rate {STRENGTH:g} before_bn shifts more than before_weight in {_count(placements)}."
        )
    depths = depth_contrast(study)
    for placement, label in PLACEMENTS.items():
        rows = depths[depths["placement"] == placement]
        if len(rows):
            parts.append(
                f"{label}: the deeper half of the layers shifts more than the other in {_count(rows)}."
            )
    return " ".join(parts)


def _count(rows: pd.DataFrame) -> str:
    ours: list[Interval] = list(rows["ours"])
    clear, against = sum(i.low > 0 for i in ours), sum(i.high < 0 for i in ours)
    theirs = rows["published"].tolist()
    return (
        f"{clear} of our {len(ours)} networks, less in {against} (by 95 % intervals; difference "
        f"{_span([i.mean for i in ours])}), and in {sum(t > 0 for t in theirs)} of the paper's ({_span(theirs)})"
    )


def _span(values: list[float]) -> str:
    low, high = (f"{end:+.2f}" for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _layers(study: PaperStudy):
    """Each name that both have, with our layers and the paper's at the drop rate in question."""
    measured = where(measured_layers(study), strength=STRENGTH)
    published = where(published_layers(paper.figure4()), strength=STRENGTH)
    for name in names_in(measured):
        ours, theirs = (
            table[(table["dataset"] == name[0]) & (table["network"] == name[1])]
            for table in (measured, published)
        )
        if len(theirs):
            yield name, ours, theirs
