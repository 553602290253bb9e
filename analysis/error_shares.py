"""How much of the error that noise costs is variance shift? Two interventions, paired over seeds.

All three numbers are differences of test errors, in percentage points, between networks of one seed:

    gap         noisy - noise-free
    transplant  noise-free with the noisy twin's shift - noise-free      what the shift costs by itself
    removal     (noisy - noisy after BN adjustment) - the same of the noise-free twin
                                                                         what taking the shift away wins back

Adjustment does a little to networks without shift as well; the noise-free twin takes that out. `share` is
transplant or removal over gap. The two need not agree, nor add up to 1: noise also changes the weights, and the
same shift may harm two networks differently.
"""

import pandas as pd

from analysis.schema import NETWORK, RECIPE
from analysis.select import KIND
from analysis.stats import mean_interval, ratio_interval

QUANTITIES = ["gap", "transplant", "removal"]


def error_shares(members: pd.DataFrame, by: list[str] | None = None) -> pd.DataFrame:
    """Gap, transplant and removal, and the share of the gap that each of the two explains.

    Args:
        members: finished members with the columns of members.csv. Noisy ones without a noise-free twin (same
            network, width, recipe and seed) count nowhere, those without a transplant not in `transplant`.
        by: columns that get rows of their own besides placement, noise and strength; default width. Networks that
            `by` does not tell apart are averaged within the seed first.

    Returns:
        A row per group and quantity (gap, transplant, removal): the columns `by`, placement, noise, strength; then
        quantity; mean, low, high in points with a 95 % interval over seeds, n; share, share_low, share_high of the
        gap, all three NaN where the data do not tell the gap from 0, and for the gap itself.
    """
    differences = differences_from_twin(members)
    keys = [*(["width"] if by is None else by), *KIND]
    rows = []
    for key, group in differences.groupby(keys):
        per_seed = group.groupby("seed")[QUANTITIES].mean()
        for quantity in QUANTITIES:
            row = dict(zip(keys, key, strict=True)) | {"quantity": quantity}
            row |= mean_interval(per_seed[quantity])._asdict()
            if quantity != "gap":
                share = ratio_interval(per_seed[quantity], per_seed["gap"])
                row |= {"share": share.mean, "share_low": share.low, "share_high": share.high}
            rows.append(row)
    columns = [*keys, "quantity", "mean", "low", "high", "n", "share", "share_low", "share_high"]
    return pd.DataFrame(rows, columns=columns)


def differences_from_twin(members: pd.DataFrame) -> pd.DataFrame:
    """The noisy members that have a noise-free twin, with the columns gap, transplant and removal in points."""
    twin_of = [*NETWORK, "width", *(name for name in RECIPE if name in members), "seed"]
    errors = ["test_error", "test_error_adjusted"]
    twins = members.loc[members["noise"] == "none", [*twin_of, *errors]]
    twins = twins.rename(columns={name: f"{name}_of_twin" for name in errors})
    pairs = members[members["noise"] != "none"].merge(twins, on=twin_of)
    transplanted = pairs["test_error_transplanted"] if "test_error_transplanted" in pairs else float("nan")
    return pairs.assign(
        gap=pairs["test_error"] - pairs["test_error_of_twin"],
        transplant=transplanted - pairs["test_error_of_twin"],
        removal=(pairs["test_error"] - pairs["test_error_adjusted"])
        - (pairs["test_error_of_twin"] - pairs["test_error_adjusted_of_twin"]),
    )
