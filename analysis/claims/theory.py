"""Claims about the formulas: C3 (Eq 8), C4 (Eq 12), C5 (d cos^2)."""

import numpy as np
import pandas as pd

from analysis.claims.evidence import MAIN_STUDY, CannotTestError, Evidence, over_groups
from analysis.claims.verdict import Part, about, less, more

PERCENT = 5.0  # 'holds per layer': 9 of 10 BN layers within this of the formula
GROWTH = 0.25  # how far the exponent of linear growth may be from 1
FLAT = 0.1  # an exponent of d cos^2 below which cos^2 falls like 1/d
WIDTHS = "python -m experiments.run +sweep=width"


def equation_8_holds(evidence: Evidence) -> list[Part]:
    """C3: measured local shift against Eq 8: 9 of 10 BN layers before_bn are within 5 %."""
    return _formula_holds(evidence, "before_bn", "Eq 8")


def equation_12_holds(evidence: Evidence) -> list[Part]:
    """C4: measured local shift against Eq 12: 9 of 10 BN layers before_weight are within 5 %."""
    return _formula_holds(evidence, "before_weight", "Eq 12")


def _formula_holds(evidence: Evidence, placement: str, formula: str) -> list[Part]:
    layers = evidence.layers[evidence.layers["placement"] == placement]
    layers = layers.dropna(subset=["local_ratio", "ratio_paper"])
    lacking = CannotTestError(
        f"no BN layer {placement} with a measured local shift and {formula}", MAIN_STUDY
    )
    percent = 100 * (layers["local_ratio"] / layers["ratio_paper"] - 1).abs()
    contrast = over_groups(layers.assign(_percent=percent), _ninth_decile, evidence.network, lacking)
    name = f"distance of the local shift from {formula} that 9 of 10 BN layers stay below"
    return [less(name, contrast, "%", PERCENT)]


def _ninth_decile(layers: pd.DataFrame) -> float:
    return float(layers["_percent"].quantile(0.9))


def d_cos2_grows_linearly(evidence: Evidence) -> list[Part]:
    """C5: the exponent a of d cos^2 ~ d^a, in networks without noise, is above 0, and is 1 within 0.25.

    Of networks of several widths a is fitted within each BN layer (an intercept a layer); of one width, across
    layers.
    """
    layers = evidence.layers[(evidence.layers["noise"] == "none") & (evidence.layers["norm"] == "batch")]
    layers = layers.dropna(subset=["d_cos2", "fan_in"])
    layers = layers[(layers["d_cos2"] > 0) & (layers["fan_in"] > 0)]
    networks = [column for column in evidence.network if column != "width"]
    lacking = CannotTestError("no noiseless network whose fan-in varies by a factor of 2", WIDTHS)
    contrast = over_groups(layers, _exponent, networks, lacking)
    name = "exponent a of d cos² ~ dᵃ"
    return [
        more(f"{name}: does it grow?", contrast, "", FLAT),
        about(f"{name}: linearly?", contrast, "", 1, GROWTH),
    ]


def _exponent(layers: pd.DataFrame) -> float:
    """Slope of log d cos^2 against log d; NaN where d varies by less than a factor of 2."""
    log_d, log_d_cos2 = (layers[column].astype(float).transform("log") for column in ("fan_in", "d_cos2"))
    if layers["width"].nunique() > 1:
        by_layer = layers["layer_index"].to_numpy()
        log_d = log_d - log_d.groupby(by_layer).transform("mean")
        log_d_cos2 = log_d_cos2 - log_d_cos2.groupby(by_layer).transform("mean")
    if np.ptp(log_d) < np.log(2):
        return np.nan
    return float(np.polyfit(log_d, log_d_cos2, 1)[0])
