"""Claims about the size of the shift: C1, C2, C6, C10, C11.

`shift` is the mean over BN layers of max(r, 1/r), r = Var_test / Var_moving: 1 is none, as in the paper's
Figure 4.
"""

from analysis.claims.evidence import MAIN_STUDY, CannotTestError, Evidence, between_groups, paired
from analysis.claims.verdict import Part, about, more
from analysis.select import is_same_variance

SHIFT = 0.02  # the smallest difference in mean shift magnitude that matters
LITTLE = 0.05  # what 'about none' allows at drop rate 0.1
ERROR = 0.2  # percentage points of test error that matter: the gains that the paper reports are 0.2 to 0.3
WIDTHS = "python -m experiments.run +sweep=width"
MATCHED = "python -m experiments.run +sweep=matched_noise"


def before_bn_shifts_more(evidence: Evidence) -> list[Part]:
    """C1: shift(before_bn) - shift(before_weight) at equal drop rate, mean over rates and networks, is above 0."""
    contrast = paired(
        evidence.dropout("before_bn"),
        evidence.dropout("before_weight"),
        "shift",
        [*evidence.network, "strength"],
    )
    name = "mean shift magnitude, before_bn minus before_weight at equal rate"
    return [more(name, contrast, "", SHIFT)]


def grows_with_rate(evidence: Evidence) -> list[Part]:
    """C2: shift at the largest rate minus that at the smallest is above 0; at rate 0.1 it is that of no noise."""
    parts = []
    for placement in ("before_bn", "before_weight"):
        members = evidence.dropout(placement)
        low, high = members["strength"].min(), members["strength"].max()
        if low == high:
            raise CannotTestError(f"one drop rate only ({low:g})", "members.dropout.rate=[0.1,0.3,0.5,0.7]")
        strong, weak = (members[members["strength"] == rate] for rate in (high, low))
        contrast = paired(strong, weak, "shift", evidence.network)
        name = f"mean shift magnitude {placement}, rate {high:g} minus {low:g}"
        parts.append(more(name, contrast, "", SHIFT))
        weakest = members[(members["strength"] - 0.1).abs() < 1e-9]
        if len(weakest):
            contrast = paired(weakest, evidence.baseline(), "shift", evidence.network)
            name = f"mean shift magnitude {placement}, rate 0.1 minus no noise"
            parts.append(about(name, contrast, "", 0, LITTLE))
    if not any("no noise" in part.name for part in parts):
        raise CannotTestError("no drop rate 0.1", MAIN_STUDY, parts)
    return parts


def wider_shifts_less(evidence: Evidence) -> list[Part]:
    """C6: before_weight, narrowest minus widest network is above 0, in shift and in the error that noise costs.

    The shift over all rates; the cost (test error minus that without noise) at the largest.
    """
    members = evidence.dropout("before_weight")
    networks = [column for column in evidence.network if column != "width"]
    extent = members.groupby(networks, dropna=False)["width"].agg(["min", "max"])
    extent = extent[extent["min"] < extent["max"]]
    if extent.empty:
        raise CannotTestError("one width only", WIDTHS)
    members = members.merge(extent.reset_index(), on=networks)
    baseline = evidence.baseline()[[*evidence.network, "seed", "test_error"]]
    members = members.merge(baseline, on=[*evidence.network, "seed"], suffixes=("", "_baseline"), how="left")
    members["cost"] = members["test_error"] - members["test_error_baseline"]
    narrow, wide = (members[members["width"] == members[end]] for end in ("min", "max"))
    shift = between_groups(narrow, wide, "shift", networks)
    strongest = members["strength"].max()
    narrow, wide = (group[group["strength"] == strongest] for group in (narrow, wide))
    cost = between_groups(narrow, wide, "cost", networks)
    return [
        more("mean shift magnitude, narrowest minus widest", shift, "", SHIFT),
        more(f"test error that rate {strongest:g} costs, narrowest minus widest", cost, "points", ERROR),
    ]


def last_layer_is_safe(evidence: Evidence) -> list[Part]:
    """C10: one dropout after the last BN: no shift beyond that without noise, and test error falls."""
    members, baseline = evidence.dropout("after_last_bn"), evidence.baseline()
    shift = paired(members, baseline, "shift", evidence.network)
    gain = -paired(members, baseline, "test_error", evidence.network)
    return [
        about("mean shift magnitude, after_last_bn minus no noise", shift, "", 0, SHIFT),
        more("test error, no noise minus after_last_bn, mean over rates", gain, "points", ERROR),
    ]


def uout_shifts_less(evidence: Evidence) -> list[Part]:
    """C11: shift(dropout) - shift(Uout) is above 0, at equal label (beta = rate) and at equal noise variance."""
    placements = ["before_bn", "before_weight"]
    dropout, uout = (
        evidence.where(norm="batch", noise=noise, placement=placements) for noise in ("dropout", "uout")
    )
    if dropout.empty or uout.empty:
        raise CannotTestError("no dropout and Uout at the same placement", MATCHED)
    cell, parts = [*evidence.network, "placement"], []
    if set(dropout["strength"]) & set(uout["strength"]):
        contrast = paired(dropout, uout, "shift", [*cell, "strength"])
        parts.append(more("mean shift magnitude, dropout minus Uout at equal label", contrast, "", SHIFT))
    nearest = {
        variance: min(dropout["noise_variance"], key=lambda other: abs(other - variance))
        for variance in uout["noise_variance"].unique()
    }
    nearest = {uout: other for uout, other in nearest.items() if is_same_variance(other, uout)}
    if not nearest:
        raise CannotTestError("no dropout and Uout of equal noise variance", MATCHED, parts)
    matched = uout.assign(noise_variance=uout["noise_variance"].map(nearest)).dropna(
        subset=["noise_variance"]
    )
    contrast = paired(dropout, matched, "shift", [*cell, "noise_variance"])
    return [
        *parts,
        more("mean shift magnitude, dropout minus Uout at equal noise variance", contrast, "", SHIFT),
    ]
