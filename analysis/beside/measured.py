"""The measured quantities of the paper's figures and tables, in the form in which the paper's own are kept."""

import pandas as pd

from analysis import paper
from analysis.beside.setting import PaperStudy
from analysis.schema import PLACEMENTS
from analysis.stats import over_seeds
from analysis.theory import shift_magnitude

CELL = ["dataset", "network", "placement", "strength"]


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
    deepest = layers.groupby(["dataset", "network"])["layer_index"].transform("max")
    return layers.assign(
        depth=((layers["layer_index"] - 1) / (deepest - 1).clip(lower=1)).astype(float),
        shift_magnitude=shift_magnitude(layers["shift_ratio"]),
    )


def published_layers(figure: pd.DataFrame) -> pd.DataFrame:
    """The paper's layers with the same columns: `strength`, `depth`, `shift_magnitude`, `clipped`."""
    deepest = figure.groupby(["dataset", "network"])["bn_layer_index"].transform("max")
    return figure.assign(
        depth=figure["bn_layer_index"] / deepest,
        strength=figure["drop_ratio"],
        clipped=figure["read_from"] == "clipped_at_top",
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
    deepest = layers.groupby(["dataset", "network"])["layer_index"].transform("max")
    depth = (layers["layer_index"] - 1) / (deepest - 1).clip(lower=1)
    return layers.assign(depth=depth.astype(float))


def means_of_table1(study: PaperStudy) -> pd.DataFrame:
    """Table 1, measured and published: a row per dataset, network and `quantity` (mean_cos2, mean_d_cos2).

    Columns: `mean`, `low`, `high`, `n` (ours, over seeds; layers are averaged within a seed), `published`.
    """
    layers = measured_convolutions(study)
    quantities = {"mean_cos2": "cos2", "mean_d_cos2": "d_cos2"}
    ours = [
        over_seeds(layers, column, ["dataset", "network"]).assign(quantity=quantity)
        for quantity, column in quantities.items()
    ]
    theirs = paper.paper_values().query("table_or_figure == 'Table 1'")
    theirs = theirs[["dataset", "network", "quantity", "value"]].rename(columns={"value": "published"})
    return pd.concat(ours, ignore_index=True).merge(theirs, on=["dataset", "network", "quantity"])
