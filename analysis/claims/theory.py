"""Predictions about the formulas: C3 (Eq 8), C4 (Eq 12), C5 (d cos^2), Q3 (the closure)."""

import numpy as np
import pandas as pd
from pandas.api.typing import DataFrameGroupBy

from ..closure_errors import SHIFTS, TARGETS, closure_errors
from .evidence import MAIN_STUDY, CannotTestError, Evidence
from .verdict import Part, less, more

PERCENT = 5.0  # 'holds in a layer': within this; and a local shift below this is none to predict
GROWTH = 0.1  # an exponent of d cos^2 below which cos^2 falls like 1/d; the paper's Figure 3 has 0.29 to 0.79
# The least error of the closure that counts; other networks (the sweep `closure`) have 0.8 %, the local law 18 %.
PREDICTABLE = 2.0
WIDTHS = "python -m experiments.run +sweep=width"


def formula_holds(evidence: Evidence, placement: str, formula: str) -> list[Part]:
    """C3, C4: the distance of the measured local shift from the paper's formula that 9 of 10 BN layers stay below.

    |log(measured / formula)| in percent, over the layers in which either of the two shifts by 5 % or more:
    elsewhere any formula holds.
    """
    layers = evidence.layers[evidence.layers["placement"] == placement]
    percent = 100 * layers[["local_ratio", "ratio_paper"]].astype(float).transform("log")
    layers = layers.assign(_percent=(percent["local_ratio"] - percent["ratio_paper"]).abs())
    layers = layers[(percent.abs().max(axis=1) > PERCENT) & layers["_percent"].notna()]
    lacking = CannotTestError(
        f"no BN layer {placement} with a local shift to compare with {formula}", MAIN_STUDY
    )
    contrast = evidence.of_each(layers, _ninth_decile, evidence.network, lacking)
    name = f"distance of the local shift from {formula} that 9 of 10 BN layers stay below"
    return [less(name, contrast, "%", PERCENT)]


def _ninth_decile(groups: DataFrameGroupBy) -> pd.Series:
    return groups["_percent"].quantile(0.9)


def d_cos2_grows(evidence: Evidence) -> list[Part]:
    """C5: the exponent a of d cos^2 ~ d^a in networks without noise; 0 where cos^2 falls like 1/d.

    Of networks of several widths a is fitted within each BN layer (an intercept a layer); of one width, across
    layers.
    """
    layers = evidence.layers[(evidence.layers["noise"] == "none") & (evidence.layers["norm"] == "batch")]
    layers = layers.dropna(subset=["d_cos2", "fan_in"])
    layers = layers[(layers["d_cos2"] > 0) & (layers["fan_in"] > 0)]
    networks = [column for column in evidence.network if column != "width"]
    lacking = CannotTestError("no noiseless network whose fan-in varies by a factor of 2", WIDTHS)
    contrast = evidence.of_each(layers, _exponent, networks, lacking)
    return [more("exponent a of d cos² ~ dᵃ", contrast, "", GROWTH)]


def _exponent(groups: DataFrameGroupBy) -> pd.Series:
    """Slope of log d cos^2 against log d; NaN where d varies by less than a factor of 2."""
    logs = np.log(groups.obj[["fan_in", "d_cos2"]].astype(float))
    group = groups.ngroup()
    of_one_width = groups["width"].transform("nunique") == 1
    layer = groups.obj["layer_index"].mask(of_one_width, -1)
    centred = logs - logs.groupby([group, layer]).transform("mean")
    d, d_cos2 = centred["fan_in"], centred["d_cos2"]
    slope = (d * d_cos2).groupby(group).sum() / (d**2).groupby(group).sum()
    spread = d.groupby(group)
    return slope.where(spread.max() - spread.min() >= np.log(2))


def cumulative_shift_is_predicted(evidence: Evidence) -> list[Part]:
    """Q3: the closure's error in the cumulative shift behind one large batch, median over a seed's BN layers.

    |log(predicted / measured)| in percent, in noisy networks, over the layers behind the first that shift by more
    than 10 %: elsewhere any formula holds.
    """
    lacking = CannotTestError(
        "no BN layer behind the first that shifts by more than 10 % and has a predicted cumulative shift",
        MAIN_STUDY,
    )
    if not {TARGETS["population"], "shift_ratio_predicted"} <= {
        *evidence.layers
    }:  # studies of older versions
        raise lacking
    judged = closure_errors(evidence.layers[evidence.layers["noise"] != "none"])
    judged = judged[judged["log_ratio"].abs() > SHIFTS]
    judged = judged.assign(_percent=100 * judged["error"].abs())
    contrast = evidence.of_each(judged, _median_error, evidence.network, lacking)
    return [less("median error of the predicted cumulative shift", contrast, "%", PREDICTABLE)]


def _median_error(groups: DataFrameGroupBy) -> pd.Series:
    return groups["_percent"].median()
