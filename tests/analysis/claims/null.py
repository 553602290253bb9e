"""Null tables: real networks trained without noise, relabelled as networks with noise, so that nothing is there.

The networks are 80 seeds of one (MLP of width 16 on digits, 40 epochs), as a study wrote them. Whatever a claim
says of noise, these tables do not show it.
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.tables import Study
from analysis.theory.noises import family

HERE = Path(__file__).parent
MEMBERS, LAYERS = (
    pd.read_csv(HERE / f"noise_free_{table}.csv").rename(columns={"seed": "real_seed"})
    for table in ("members", "layers")
)
DROPOUT = [*product(("before_bn", "before_weight", "after_last_bn"), ["dropout"], (0.1, 0.3, 0.5))]
UOUT = [("before_weight", "uout", beta) for beta in (0.1, 0.3, 0.5)]
KINDS = [("none", "none", 0.0), *DROPOUT, *UOUT]


def study(
    random: np.random.Generator,
    kinds: Sequence[tuple[str, str, float]] = KINDS,
    seeds: int = 5,
    **labels: Sequence,
) -> Study:
    """A study of as many seeds in which every network is a noise-free one of another real seed.

    `labels` are columns with the values that networks are to have besides, such as two widths: a fan-in grows with
    the width, cos^2 falls with it, so that d cos^2 does not grow.
    """
    rows = [
        dict(zip(("placement", "noise", "strength"), kind, strict=True))
        | dict(zip(labels, label, strict=True))
        for label in product(*labels.values())
        for kind in kinds
    ]
    members = pd.concat([_kind(row, random, seeds) for row in rows], ignore_index=True)
    layers = members.drop(columns=MEMBERS.columns[1:]).merge(LAYERS, on="real_seed")
    layers["fan_in"] *= layers["width"] / 16
    layers["local_ratio"] = layers["shift_ratio"].where(layers["noise"] != "none")
    layers["ratio_paper"] = (1 / (1 + layers["noise_variance"])).where(layers["noise"] != "none")
    layers["local_ratio_exact"] = layers["shift_ratio_predicted"] = layers["ratio_paper"]
    layers["shift_ratio_population"] = layers["shift_ratio"]
    return Study("null", members, layers)


def _kind(row: dict, random: np.random.Generator, seeds: int) -> pd.DataFrame:
    chosen = MEMBERS.sample(seeds, random_state=random)
    network = {
        "data": "digits",
        "model": "mlp",
        "width": 16,
        "depth": 3,
        "norm": "batch",
        "status": "ok",
    } | row
    network["noise_variance"] = family(row["noise"]).noise_variance(row["strength"])
    return chosen.assign(**network, seed=range(seeds))
