"""What the paper's own published numbers say when they are put together. Nothing here was measured by us.

Each function computes one finding from the tables of `analysis.paper` and returns it as a table, so that a
report can print it and a test can check it.
"""

import pandas as pd

from . import error_rates, figure3, figure4_mean_magnitude, paper_values

CLAIMED_COS2_RANGE = (0.01, 0.10)  # what the paper says cos^2 lies in
NETWORK = ["dataset", "network"]


def runs_behind_bars() -> pd.DataFrame:
    """How many runs are behind each error bar of Figure 4, from its last digits. The captions say 5.

    The mean of n errors printed with two digits is a multiple of 0.01 / n. A row for `before_bn` and
    `before_weight`, each with its own baseline: `bars`, and how many are a multiple for n = 3, 4 and 5
    (`multiples_of_3`, ...). A bar that is a multiple of 0.01 counts for every n.

    The bars were read to 0.0005 but their stored digits fit to 0.0001, so whoever read them rounded to these
    multiples: the counts repeat that reading of the figure, they do not test it.
    """
    bars = error_rates().query("table == 'Figure 4'")
    column = bars["baseline_of"].fillna(bars["placement"]).rename("placement")
    hundredths = {n: bars["error"] * n / 0.01 for n in (3, 4, 5)}
    # The bars are stored with four digits, so a multiple of 0.01 / 3 is off by up to 0.00005.
    fits = {f"multiples_of_{n}": (value - value.round()).abs() < 0.03 for n, value in hundredths.items()}
    return pd.DataFrame({"bars": 1, **fits}).groupby(column).sum().reset_index()


def single_run_sd() -> pd.Series:
    """Standard deviation of one run's test error per dataset, in points; the paper publishes no spread.

    The authors trained every baseline twice, once for each column of Figure 4, with n_a and n_b runs. The
    two means differ by noise alone, with variance sd^2 (1 / n_a + 1 / n_b). Pooled over four networks, so
    itself known to about a third.
    """
    baselines = error_rates().query("table == 'Figure 4' and placement == 'none'")
    first, second = (
        baselines[baselines["baseline_of"] == placement].set_index(NETWORK)
        for placement in ("before_bn", "before_weight")
    )
    variance = (first["error"] - second["error"]) ** 2 / (1 / first["runs"] + 1 / second["runs"])
    return (variance.groupby("dataset").mean() ** 0.5).rename("single_run_sd")


def cells_against_noise_floor() -> pd.DataFrame:
    """Every cell of Tables 4 and 6 with noise, beside its baseline, and whether noise alone explains the two.

    Columns: `table`, `dataset`, `network`, `placement`, `noise`, `strength`, `error`, `baseline`,
    `difference`, its `standard_error` (from `single_run_sd` and the runs behind each of the two),
    `within_noise` (the difference is less than two standard errors).
    """
    errors = error_rates().query("table in ['Table 4', 'Table 6']")
    baselines = _table_baselines()
    cells = (
        errors[errors["placement"] != "none"].merge(baselines, on=["table", *NETWORK]).reset_index(drop=True)
    )
    variance_of_mean = 1 / cells["runs"] + 1 / cells["baseline_runs"]
    cells["difference"] = cells["error"] - cells["baseline"]
    cells["standard_error"] = cells["dataset"].map(single_run_sd()) * variance_of_mean**0.5
    cells["within_noise"] = cells["difference"].abs() < 2 * cells["standard_error"]
    return cells.drop(columns=["adjusted", "metric", "runs", "baseline_of", "baseline_runs"])


def noise_floor_share() -> pd.DataFrame:
    """How many cells of Tables 4 and 6 cannot be told from their baseline.

    A row per table and dataset: `cells`, `within_noise` (of them), `share`.
    """
    cells = cells_against_noise_floor()
    table = cells.groupby(["table", "dataset"], as_index=False).agg(
        cells=("within_noise", "size"), within_noise=("within_noise", "sum")
    )
    return table.assign(share=table["within_noise"] / table["cells"])


def loss_recovered_by_adjustment() -> pd.DataFrame:
    """Table 3 (dropout 0.5): the share of the accuracy that dropout cost which adjusting BN wins back.

    A row per dataset, network and placement: `error`, `adjusted_error`, `baseline` (that of Table 4), `loss`
    (error - baseline, in points), `recovered` ((error - adjusted_error) / loss). Empty where dropout cost
    nothing; shaky where `loss` is within the noise of the runs, some 0.2 points on CIFAR10, 0.4 on CIFAR100.
    """
    errors = error_rates().query("table == 'Table 3'")
    table = errors.pivot(index=[*NETWORK, "placement"], columns="adjusted", values="error")
    table = (
        table.rename(columns={False: "error", True: "adjusted_error"}).rename_axis(columns=None).reset_index()
    )
    table = table.merge(_table_baselines().query("table == 'Table 4'")[[*NETWORK, "baseline"]], on=NETWORK)
    table["loss"] = table["error"] - table["baseline"]
    table["recovered"] = (table["error"] - table["adjusted_error"]) / table["loss"].where(table["loss"] > 0)
    return table


def width_ordering() -> pd.DataFrame:
    """Whether networks with a larger d cos^2 shift less under before_weight, as Eq 12 suggests.

    A row per dataset, drop rate above 0 and network: `d_cos2` (Table 1), `mean_magnitude` (Figure 4),
    `clipped` (BN layers that left the plot, which make the mean a lower bound), `rank_d_cos2` and
    `rank_magnitude` (1 = largest of the four). By Eq 12 the two ranks run against each other.
    """
    shift = figure4_mean_magnitude().query("placement == 'before_weight' and drop_ratio > 0")
    values = paper_values().query("table_or_figure == 'Table 1' and quantity == 'mean_d_cos2'")
    d_cos2 = values[[*NETWORK, "value"]].rename(columns={"value": "d_cos2"})
    table = shift.drop(columns=["placement", "bn_layers"]).merge(d_cos2, on=NETWORK)
    ranked = (
        table.groupby(["dataset", "drop_ratio"])[["d_cos2", "mean_magnitude"]]
        .rank(ascending=False)
        .astype(int)
    )
    table = table.assign(rank_d_cos2=ranked["d_cos2"], rank_magnitude=ranked["mean_magnitude"])
    return table.sort_values(["dataset", "drop_ratio", "rank_d_cos2"], ignore_index=True)


def cos2_outside_range() -> pd.DataFrame:
    """How many of Figure 3's cos^2, one a convolution, lie outside the range that the paper claims for them.

    A row per dataset and network: `layers`, `below` (at most 0.01), `above` (at least 0.10), `outside`.
    """
    cos2 = figure3().query("quantity == 'cos2'")
    low, high = CLAIMED_COS2_RANGE
    counted = cos2.assign(layers=1, below=cos2["value"] <= low, above=cos2["value"] >= high)
    table = counted.groupby(NETWORK, as_index=False)[["layers", "below", "above"]].sum()
    return table.assign(outside=table["below"] + table["above"])


def statements() -> list[str]:
    """Every finding of this module as a sentence with its numbers."""
    bars = runs_behind_bars().set_index("placement")
    noise = single_run_sd()
    floor = noise_floor_share()[["cells", "within_noise"]].sum()
    recovered = loss_recovered_by_adjustment().dropna(subset="recovered")
    spans = {
        placement: f"{rows.min():.0%} to {rows.max():.0%}"
        for placement, rows in recovered.groupby("placement")["recovered"]
    }
    unmeasurable = 16 - len(recovered)
    order = width_ordering()
    least = order[order["drop_ratio"].isin([0.5, 0.7]) & (order["rank_magnitude"] == 1)]
    cos2 = cos2_outside_range()[["layers", "below", "above", "outside"]].sum()
    low, high = CLAIMED_COS2_RANGE
    return [
        f"Runs: {bars.loc['before_bn', 'multiples_of_3']} of the {bars.loc['before_bn', 'bars']} error "
        "bars of Figure 4 "
        "before_bn are multiples of 0.01/3, so means of 3 runs; "
        f"{bars.loc['before_weight', 'multiples_of_5']} of the "
        f"{bars.loc['before_weight', 'bars']} before_weight fit 5 runs. The captions say 5.",
        f"Noise floor: the two baselines of Figure 4 differ as single runs with a standard deviation of "
        f"{noise['CIFAR10']:.2f} points on CIFAR-10 and {noise['CIFAR100']:.2f} on CIFAR-100 would. With it "
        f"{floor['within_noise']} of the {floor['cells']} cells of Tables 4 and 6 lie within 2 standard "
        "errors of their "
        "baseline.",
        f"Adjusting BN (Table 3) wins back {spans['before_bn']} of the accuracy that dropout 0.5 cost "
        "before_bn, "
        f"{spans['before_weight']} before_weight; in {unmeasurable} of 16 cases dropout cost nothing.",
        f"Widest is not least shifted: at drop rates 0.5 and 0.7 before_weight the most shifted network is "
        f"{' and '.join(dict.fromkeys(least['network']))} on both data sets, although its d cos^2 ranks "
        f"{' or '.join(str(rank) for rank in sorted(set(least['rank_d_cos2'])))} from the top of four.",
        f"cos^2: {cos2['outside']} of the {cos2['layers']} values of Figure 3 lie outside the stated "
        f"({low}, {high:.2f}), "
        f"{cos2['below']} below and {cos2['above']} above.",
    ]


def _table_baselines() -> pd.DataFrame:
    """The no-dropout rows of the tables: `table`, `dataset`, `network`, `baseline`, `baseline_runs`."""
    errors = error_rates().query("table != 'Figure 4' and placement == 'none' and metric == 'top1'")
    names = {"error": "baseline", "runs": "baseline_runs"}
    return errors[["table", *NETWORK, *names]].rename(columns=names)
