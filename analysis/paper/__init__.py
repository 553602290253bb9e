"""The numbers that the paper published, as tables in the project's words.

Read from arXiv 1801.05134v1; README.md says where each comes from and how sure it is. Placements and noises
carry the project's names: the paper's Dropout-(a) is `before_bn`, Dropout-(b) `before_weight`, its
Bernoulli noise `dropout` and its uniform noise `uout`. Every rate is a DROP rate. Datasets and networks
keep the names the paper prints. Every call reads its file afresh, so the caller may change what it gets.
"""

from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parent

NOISES = {"bernoulli": "dropout", "uniform": "uout"}
PLACEMENTS = {
    "dropout_a": "before_bn",
    "dropout_b": "before_weight",
    "bottleneck(dropout_a?)": "before_bn",  # Figure 1 does not say; its accuracy is that of (a) in Table 3
    "uout": "before_weight",  # Table 6 puts Uout where Dropout-(b) was
}
ERROR_QUANTITIES = {  # quantity in the file -> metric, after BN adjustment or not
    "error_pct": ("top1", False),
    "error_pct_after_bn_adjust": ("top1", True),
    "error_pct_top1": ("top1", False),
    "error_pct_top5": ("top5", False),
}


def paper_values() -> pd.DataFrame:
    """Every number of Tables 1-6 and Figures 1, 4 and 5, and some of related papers.

    Columns: `source_version` (arxiv_v1, or followup for other papers), `table_or_figure`, `dataset`,
    `network`, `placement` (none for a baseline; other papers' own words are kept), `noise`, `strength`
    (drop rate or Uout beta; empty where the source gives none or several), `rate_or_beta` (as printed),
    `quantity` (its name holds the unit), `value`, `uncertainty` (what is known of it, in words),
    `how_obtained`, `confidence` (high = text of the PDF, high_digitised = read from the vector paths of the
    figure).
    """
    values = pd.read_csv(FOLDER / "paper_values.csv")
    values.insert(6, "strength", pd.to_numeric(values["rate_or_beta"], errors="coerce"))
    values["noise"] = values["noise"].replace(NOISES)
    values["placement"] = values["placement"].replace(PLACEMENTS)
    # Eq 15 is the theory of noise straight into BatchNorm, unlike the Uout networks of Table 6.
    values.loc[values["table_or_figure"] == "Eq 15 text", "placement"] = "before_bn"
    return values


def figure1() -> pd.DataFrame:
    """Figure 1: DenseNet on CIFAR-100 without dropout and with rate 0.5. Columns as in `figure4`."""
    return _shift_per_bn_layer("fig1")


def figure3() -> pd.DataFrame:
    """Figure 3: squared cosine between the weights and the all-ones vector, and d cos^2 against d.

    Columns: `dataset`, `network`, `quantity`, `x`, `value`. Where quantity is `cos2`, x is the index of the
    convolution (0 = shallowest) and value the mean over its filters; where it is `d_cos2`, x is the fan-in
    d and value the mean of d cos^2 over the layers of that fan-in (so it seems: weighted by their number,
    they give WRN's mean in Table 1 within 0.2 %). Networks trained without dropout.
    """
    return pd.read_csv(FOLDER / "fig3_cos2.csv")


def figure4() -> pd.DataFrame:
    """Figure 4: shift magnitude of every BN layer, 8 networks x 2 placements x 5 drop rates, one model each.

    Columns: `figure`, `dataset`, `network`, `placement`, `drop_ratio`, `bn_layer_index` (0 = shallowest),
    `shift_magnitude` (max(r, 1/r), digitised: off by less than 0.0015 in before_bn, 0.00015 in
    before_weight), `read_from` (vertex, interp, or clipped_at_top: the curve leaves the plot there, the
    value is a lower bound). Rate 0 is the baseline that the authors trained for that placement's column.
    """
    return _shift_per_bn_layer("fig4")


def figure5() -> pd.DataFrame:
    """Figure 5: accuracy on the training set in train mode and in eval mode, one run a curve.

    Columns: `dataset`, `network`, `placement` (always before_bn; rate 0 is its baseline), `drop_ratio`,
    `mode` (train_mode, eval_mode), `epoch` (0 = first; on CIFAR10 the plot begins at 30), `accuracy_pct`
    (digitised: off by less than 0.05 points).
    """
    curves = pd.read_csv(FOLDER / "fig5_accuracy_by_mode.csv")
    return curves.assign(placement=curves["placement"].replace(PLACEMENTS))


def published_layers(figure: pd.DataFrame) -> pd.DataFrame:
    """The layers of `figure1` or `figure4` with a measured study's columns besides their own.

    `strength` (the drop rate), `depth` (relative: 0 for a network's first BN layer, 1 for its last), `clipped`
    (whether the value is a lower bound).
    """
    deepest = figure.groupby(["dataset", "network"])["bn_layer_index"].transform("max")
    return figure.assign(
        depth=figure["bn_layer_index"] / deepest,
        strength=figure["drop_ratio"],
        clipped=figure["read_from"] == "clipped_at_top",
    )


def figure4_mean_magnitude() -> pd.DataFrame:
    """Mean shift magnitude over a network's BN layers, from `figure4`.

    Columns: `dataset`, `network`, `placement`, `drop_ratio`, `mean_magnitude`, `bn_layers`, `clipped` (how
    many of them left the plot). Where `clipped` is not 0 the mean is a lower bound.
    """
    layers = published_layers(figure4())
    by = ["dataset", "network", "placement", "drop_ratio"]
    return layers.groupby(by, as_index=False).agg(
        mean_magnitude=("shift_magnitude", "mean"),
        bn_layers=("shift_magnitude", "size"),
        clipped=("clipped", "sum"),
    )


def error_rates() -> pd.DataFrame:
    """Test errors in per cent: Tables 3, 4, 5, 6, and the bars of Figure 4.

    Columns: `table` (`Figure 4` for its bars), `dataset`, `network`, `placement`, `noise`, `strength`,
    `adjusted` (after BN adjustment), `metric` (top1; top5 only on ImageNet), `error`, `runs` (behind the
    mean: the caption's 5, or what the digits of the bar imply), `baseline_of` (the bars have a baseline for
    each placement: which; empty elsewhere).
    """
    values = paper_values()
    chosen = (values["source_version"] == "arxiv_v1") & values["quantity"].isin(ERROR_QUANTITIES)
    values = values[chosen].reset_index(drop=True)
    metric_and_adjusted = values["quantity"].map(ERROR_QUANTITIES)
    uncertainty = values["uncertainty"]
    return pd.DataFrame(
        {
            "table": values["table_or_figure"].str.removesuffix(" row 5"),
            **{key: values[key] for key in ["dataset", "network", "placement", "noise", "strength"]},
            "adjusted": metric_and_adjusted.str[1].astype(bool),
            "metric": metric_and_adjusted.str[0],
            "error": values["value"],
            "runs": uncertainty.str.findall(r"(\d) runs").str[-1].astype(int),
            "baseline_of": uncertainty.str.extract(r"for the (dropout_[ab]) column")[0].map(PLACEMENTS),
        }
    )


def _shift_per_bn_layer(figure: str) -> pd.DataFrame:
    layers = pd.read_csv(FOLDER / "fig4_shift_per_bn_layer.csv")
    layers = layers[layers["figure"] == figure].reset_index(drop=True)
    return layers.assign(placement=layers["placement"].replace(PLACEMENTS))
