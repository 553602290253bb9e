"""Claims about what the shift does to the error: C7, C8, C9, C12, C13, C14. Errors in percentage points."""

from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.claims.evidence import (
    MAIN_STUDY,
    REFERENCE_RATE,
    CannotTestError,
    Evidence,
    over_groups,
    paired,
)
from analysis.claims.shift import ERROR, LITTLE
from analysis.claims.verdict import Contrast, Part, about, differs, less, more
from analysis.select import KIND

CORRELATION = 0.1  # a rank correlation below this is none
NORMALISERS = "python -m experiments.run +sweep=normalisers"
LITTLE_DATA = "python -m experiments.run +sweep=little_data"
EVAL, TRAIN = "train_error_eval_mode", "train_error_train_mode"


def mode_changes_accuracy(evidence: Evidence) -> list[Part]:
    """C7: error on the training data, eval minus train mode: not 0 before_bn, above 0 as in the paper's Figure 5,

    and about 0 without noise (control). Train mode has the noise itself on, which costs error too.
    """
    rate = evidence.rate("before_bn")
    noisy = _modes(evidence, evidence.dropout("before_bn", rate))
    without = _modes(evidence, evidence.baseline())
    name = "training error, eval minus train mode"
    return [
        differs(f"{name}, before_bn {rate:g}: do they differ?", noisy, "points", ERROR),
        more(f"{name}, before_bn {rate:g}: is eval the worse?", noisy, "points", ERROR),
        replace(about(f"{name}, control without noise", without, "points", 0, ERROR), control=True),
    ]


def _modes(evidence: Evidence, members: pd.DataFrame) -> Contrast:
    return paired(members, members, EVAL, [*evidence.network, *KIND], TRAIN)


def adjustment_helps(evidence: Evidence) -> list[Part]:
    """C8: test error minus that after BN adjustment is above 0 under dropout, and none without noise (control)."""
    kind = [*evidence.network, *KIND]
    parts = []
    for placement in ("before_bn", "before_weight"):
        rate = evidence.rate(placement)
        members = evidence.dropout(placement, rate)
        gain = paired(members, members, "test_error", kind, "test_error_adjusted")
        parts.append(more(f"test error won back by adjustment, {placement} {rate:g}", gain, "points", ERROR))
    baseline = evidence.baseline()
    control = paired(baseline, baseline, "test_error", kind, "test_error_adjusted")
    part = about("test error won back by adjustment, control without noise", control, "points", 0, ERROR)
    return [*parts, replace(part, control=True)]


def larger_shift_larger_error(evidence: Evidence) -> list[Part]:
    """C9: shift and test error rise together: over all members of a network; at equal noise; by transplant.

    Over all members: Spearman's rank correlation. At equal noise (family and strength) only the placement
    differs: Kendall's tau, the share of pairs of placements ordered alike minus that of pairs ordered
    contrarily. By transplant (where `test_error_transplanted` was measured): the error of a network trained
    without noise whose stored variances show the shift of its noisy twin, minus its own error: what the shift
    alone causes.
    """
    members = evidence.where(norm="batch").dropna(subset=["shift", "test_error"])
    if not members.groupby([*evidence.network, *KIND])["shift"].mean().max() > 1 + LITTLE:
        raise CannotTestError(f"no kind of noise that shifts by {LITTLE:.0%} or more", MAIN_STUDY)
    lacking = CannotTestError("too few kinds of noise to compare within one network", MAIN_STUDY)
    together = over_groups(members, _rank_correlation, evidence.network, lacking)
    parts = [more("rank correlation of shift and test error, all members", together, "", CORRELATION)]
    noisy = members[members["noise"] != "none"]
    try:
        alike = over_groups(noisy, _concordance, [*evidence.network, "noise", "strength"], lacking)
        parts.append(more("concordance of placements at equal noise", alike, "", CORRELATION))
    except CannotTestError:
        pass  # one placement only: the first part stands alone
    if members["test_error_transplanted"].notna().any():
        for placement in ("before_bn", "before_weight"):
            rate = evidence.rate(placement)
            noisy = evidence.dropout(placement, rate)
            kind = [*evidence.network, *KIND]
            caused = paired(noisy, noisy, "test_error_transplanted", kind, "twin_error")
            parts.append(
                more(f"error that the shift of {placement} {rate:g} alone causes", caused, "points", ERROR)
            )
    return parts


def _rank_correlation(members: pd.DataFrame) -> float:
    if len(members) < 4 or members["shift"].nunique() < 2 or members["test_error"].nunique() < 2:
        return np.nan
    return float(members["shift"].corr(members["test_error"], method="spearman"))


def _concordance(members: pd.DataFrame) -> float:
    """Mean over pairs of placements of the sign of (difference in shift) x (difference in error)."""
    if members["placement"].nunique() < 2:
        return np.nan
    shift, error = (members[column].to_numpy() for column in ("shift", "test_error"))
    first, second = np.triu_indices(len(members), 1)
    return float(np.mean(np.sign((shift[first] - shift[second]) * (error[first] - error[second]))))


def uout_gains(evidence: Evidence) -> list[Part]:
    """C12: test error, no noise minus Uout before_weight, is 0.2 points or more, except on ResNeXt."""
    members = evidence.where(norm="batch", noise="uout", placement="before_weight")
    if members.empty:
        raise CannotTestError("no Uout before_weight", MAIN_STUDY)
    is_resnext = members["model"].str.contains("resnext")
    name, parts = "test error, no noise minus Uout before_weight, mean over betas", []
    if not is_resnext.all():
        gain = -paired(members[~is_resnext], evidence.baseline(), "test_error", evidence.network)
        parts.append(more(name, gain, "points", ERROR))
    if is_resnext.any():
        gain = -paired(members[is_resnext], evidence.baseline(), "test_error", evidence.network)
        parts.append(less(f"{name}, ResNeXt", gain, "points", ERROR))
    return parts


def uout_bears_little_data(evidence: Evidence) -> list[Part]:
    """C13: less data raises the test error of last-layer dropout more than that of Uout before_weight."""
    if "train_samples" not in evidence.network:
        raise CannotTestError("one size of training set only", LITTLE_DATA)
    network = [column for column in evidence.network if column != "train_samples"]
    kinds = {
        "dropout": evidence.dropout("after_last_bn"),
        "uout": evidence.where(norm="batch", noise="uout", placement="before_weight"),
    }
    if kinds["uout"].empty:
        raise CannotTestError("no Uout before_weight", LITTLE_DATA)
    sizes = evidence.members["train_samples"]
    suffered, used = {}, 0
    for noise, members in kinds.items():
        kind = [*network, "train_samples", "seed"]
        mean = members.groupby(kind, dropna=False, as_index=False)["test_error"].mean()
        small, large = (mean[mean["train_samples"] == size] for size in (sizes.min(), sizes.max()))
        both = small.merge(large, on=[*network, "seed"], suffixes=("", "_large"))
        suffered[noise] = both.assign(suffered=both["test_error"] - both["test_error_large"])
        used += int(members["train_samples"].isin([sizes.min(), sizes.max()]).sum())
    contrast = replace(paired(suffered["dropout"], suffered["uout"], "suffered", network), members=used)
    name = (
        f"rise of the test error from {sizes.max():g} to {sizes.min():g} training samples, dropout minus Uout"
    )
    return [more(name, contrast, "points", ERROR)]


def without_statistics_immune(evidence: Evidence) -> list[Part]:
    """C14: with group or layer norm, dropout before it does not make eval mode the worse; with BN it is worse off.

    On the training data, at one rate, before_bn: error in eval minus train mode.
    """
    stored = evidence.where(norm="batch", noise="dropout", placement="before_bn")
    without = evidence.where(norm=["group", "layer"], noise="dropout", placement="before_bn")
    shared = set(stored["strength"]) & set(without["strength"]) - {0.0}
    if not shared:
        raise CannotTestError("no network with group or layer norm beside one with batch norm", NORMALISERS)
    rate = min(sorted(shared), key=lambda rate: abs(rate - REFERENCE_RATE))
    stored, without = (
        members[members["strength"] == rate].assign(gap=members[EVAL] - members[TRAIN])
        for members in (stored, without)
    )
    gap = _modes(evidence, without)
    difference = -paired(without, stored, "gap", [column for column in evidence.network if column != "norm"])
    name = f"training error, eval minus train mode, before_bn {rate:g}"
    return [
        less(f"{name}, group and layer norm", gap, "points", ERROR),
        more(f"{name}, batch norm minus group and layer norm", difference, "points", ERROR),
    ]
