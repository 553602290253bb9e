"""Predictions about the size of the shift: C1, C2, C6, C10, C11.

`shift` is the mean over BN layers of -log(Var_test / Var_moving), signed: 0 is none, 0.69 says that BN divides by
twice the variance. Margins are fixed by the paper's own numbers.
"""

import pandas as pd

from ..select import is_same_variance
from .evidence import MAIN_STUDY, CannotTestError, Evidence, joined
from .verdict import Part, about, more

SHIFT = 0.015  # the most that the paper's networks show without dropout (Figure 4): less is none
LITTLE = 0.1  # 'about none' at drop rate 0.1, where the paper's own networks reach 0.07 (Figure 4)
COST = 0.2  # percentage points of error that matter: the least gain that the paper speaks of
WIDTHS = "python -m experiments.run +sweep=width"
MATCHED = "python -m experiments.run +sweep=matched_noise"
NAME = "shift (-log of the ratio)"


def before_bn_shifts_more(evidence: Evidence) -> list[Part]:
    """C1: shift(before_bn) - shift(before_weight) at equal drop rate, mean over rates and networks."""
    contrast = evidence.paired(
        evidence.dropout("before_bn"), evidence.dropout("before_weight"), "shift", ["strength"]
    )
    return [more(f"{NAME}, before_bn minus before_weight at equal rate", contrast, "", SHIFT)]


def grows_with_rate(evidence: Evidence) -> list[Part]:
    """C2: shift at the largest rate minus that at the smallest, for either placement."""
    parts = []
    for placement in ("before_bn", "before_weight"):
        members = evidence.dropout(placement)
        low, high = members["strength"].min(), members["strength"].max()
        if low == high:
            raise CannotTestError(f"one drop rate only ({low:g})", "members.dropout.rate=[0.1,0.3,0.5,0.7]")
        strong, weak = (members[members["strength"] == rate] for rate in (high, low))
        contrast = evidence.paired(strong, weak, "shift")
        parts.append(more(f"{NAME} {placement}, rate {high:g} minus {low:g}", contrast, "", SHIFT))
    return parts


def is_little_at_rate_01(evidence: Evidence) -> list[Part]:
    """C2: shift at rate 0.1 minus that without noise, for either placement."""
    parts = []
    for placement in ("before_bn", "before_weight"):
        weakest = evidence.dropout(placement)
        weakest = weakest[(weakest["strength"] - 0.1).abs() < 1e-9]
        if weakest.empty:
            raise CannotTestError(f"no drop rate 0.1 {placement}", MAIN_STUDY)
        contrast = evidence.paired(weakest, evidence.baseline(), "shift")
        parts.append(about(f"{NAME} {placement}, rate 0.1 minus no noise", contrast, "", 0, LITTLE))
    return parts


def wider_shifts_less(evidence: Evidence) -> list[Part]:
    """C6: shift before_weight, narrowest minus widest network, mean over rates."""
    narrow, wide, networks = _extremes(evidence)
    contrast = evidence.between(narrow, wide, "shift", networks)
    return [more(f"{NAME} before_weight, narrowest minus widest", contrast, "", SHIFT)]


def wider_bears_more(evidence: Evidence) -> list[Part]:
    """C6: error that the largest drop rate before_weight costs, narrowest minus widest network."""
    narrow, wide, networks = _extremes(evidence)
    strongest = narrow["strength"].max()
    narrow, wide = (
        evidence.differences(group[group["strength"] == strongest], evidence.baseline(), "test_error")
        for group in (narrow, wide)
    )
    contrast = evidence.between(narrow, wide, "test_error", networks)
    return [
        more(f"test error that rate {strongest:g} costs, narrowest minus widest", contrast, "points", COST)
    ]


def _extremes(evidence: Evidence) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Members under dropout before_weight in the narrowest and in the widest networks, and the strata of these."""
    members = evidence.dropout("before_weight")
    networks = [column for column in evidence.network if column != "width"]
    width = members["width"].astype(float)
    extent = width.groupby(joined(members, networks))
    least, most = extent.transform("min"), extent.transform("max")
    narrow, wide = (members[(width == end) & (least < most)] for end in (least, most))
    if narrow.empty:
        raise CannotTestError("one width only", WIDTHS)
    return narrow, wide, networks


def last_layer_shifts_nothing(evidence: Evidence) -> list[Part]:
    """C10: shift of one dropout after the last BN minus that without noise, mean over rates."""
    contrast = evidence.paired(evidence.dropout("after_last_bn"), evidence.baseline(), "shift")
    return [about(f"{NAME}, after_last_bn minus no noise", contrast, "", 0, SHIFT)]


def uout_of_equal_label_shifts_less(evidence: Evidence) -> list[Part]:
    """C11: shift(dropout) - shift(Uout) where the drop rate equals beta."""
    dropout, uout = _dropout_and_uout(evidence)
    if not set(dropout["strength"]) & set(uout["strength"]):
        raise CannotTestError("no Uout whose beta is a drop rate", MAIN_STUDY)
    contrast = evidence.paired(dropout, uout, "shift", ["placement", "strength"])
    return [more(f"{NAME}, dropout minus Uout at equal label", contrast, "", SHIFT)]


def uout_of_equal_variance_shifts_alike(evidence: Evidence) -> list[Part]:
    """Q1: shift(dropout) - shift(Uout) at equal noise variance, where dropout shifts by more than a little."""
    dropout, uout = _dropout_and_uout(evidence)
    nearest = {
        variance: min(dropout["noise_variance"], key=lambda other: abs(other - variance))
        for variance in uout["noise_variance"].unique()
    }
    nearest = {uout: other for uout, other in nearest.items() if is_same_variance(other, uout)}
    uout = uout.assign(noise_variance=uout["noise_variance"].map(nearest)).dropna(subset=["noise_variance"])
    if uout.empty:
        raise CannotTestError("no dropout and Uout of equal noise variance", MATCHED)
    dropout = dropout[dropout["noise_variance"].isin(uout["noise_variance"])]
    shifts = evidence.paired(dropout, evidence.baseline(), "shift").estimate.value
    if not shifts > LITTLE:
        raise CannotTestError(f"nothing to compare: dropout of these variances shifts by {shifts:.2g} only")
    contrast = evidence.paired(dropout, uout, "shift", ["placement", "noise_variance"])
    return [about(f"{NAME}, dropout minus Uout at equal noise variance", contrast, "", 0, SHIFT)]


def _dropout_and_uout(evidence: Evidence) -> list[pd.DataFrame]:
    placements = ["before_bn", "before_weight"]
    both = [evidence.where(norm="batch", noise=noise, placement=placements) for noise in ("dropout", "uout")]
    if any(members.empty for members in both):
        raise CannotTestError("no dropout and Uout at the same placement", MATCHED)
    return both
