"""Predictions about the error, in percentage points: C7, C8, C10, C12, C13, Q2."""

from dataclasses import replace

import pandas as pd

from .evidence import MAIN_STUDY, REFERENCE_RATE, CannotTestError, Evidence
from .shift import COST
from .verdict import SIGNIFICANCE, Contrast, Part, about, less, more

GAIN = 0.1  # half the least gain that the paper reports as one (0.2 points, Tables 5 and 6)
PAPER_STRENGTHS = (0.1, 0.5)  # the range of rates and betas in Tables 4 and 6
NORMALISERS = "python -m experiments.run +sweep=normalisers"
LITTLE_DATA = "python -m experiments.run +sweep=little_data"
TABLE4 = "python -m experiments.run +sweep=paper_table4 recipe=cpu"
TABLE6 = "python -m experiments.run +sweep=paper_table6 recipe=cpu"
EVAL, TRAIN = "train_error_eval_mode", "train_error_train_mode"


def eval_mode_is_worse(evidence: Evidence) -> list[Part]:
    """C7a: error on the training data, eval minus train mode, before_bn, as in the paper's Figure 5.

    It holds the noise itself, too, which costs error in train mode. Control: about 0 without noise.
    """
    rate = evidence.rate("before_bn")
    name = "training error, eval minus train mode"
    noisy, without = (
        _less(evidence, members, EVAL, TRAIN)
        for members in (evidence.dropout("before_bn", rate), evidence.baseline())
    )
    return [
        more(f"{name}, before_bn {rate:g}", noisy, "points", COST),
        replace(about(f"{name}, control without noise", without, "points", 0, COST), control=True),
    ]


def stored_statistics_cost(evidence: Evidence) -> list[Part]:
    """C7b: error on the training data, eval mode minus eval mode after BN adjustment, less that without noise.

    The noise is off in both, so that only BN's stored statistics differ.
    """
    rate = evidence.rate("before_bn")
    contrast = evidence.mean(evidence.dropout("before_bn", rate), "stored_net", members=2)
    name = f"training error, stored statistics minus adjusted ones, before_bn {rate:g}, net of no noise"
    return [more(name, contrast, "points", COST)]


def adjustment_helps(evidence: Evidence) -> list[Part]:
    """C8: test error minus that after BN adjustment, for either placement, as in the paper's Table 3."""
    parts = []
    for placement in ("before_bn", "before_weight"):
        rate = evidence.rate(placement)
        gain = _less(evidence, evidence.dropout(placement, rate), "test_error", "test_error_adjusted")
        parts.append(more(f"test error won back by adjustment, {placement} {rate:g}", gain, "points", COST))
    return parts


def adjustment_without_noise_does_nothing(evidence: Evidence) -> list[Part]:
    """C8, control: test error minus that after BN adjustment is about 0 without noise."""
    gain = _less(evidence, evidence.baseline(), "test_error", "test_error_adjusted")
    part = about("test error won back by adjustment, control without noise", gain, "points", 0, COST)
    return [replace(part, control=True)]


def _less(evidence: Evidence, members: pd.DataFrame, first: str, second: str) -> Contrast:
    """One column less another."""
    name = f"{first} and {second}"
    return evidence.mean(members.assign(**{name: members[first] - members[second]}), name)


def last_layer_gains(evidence: Evidence) -> list[Part]:
    """C10: test error, no noise minus one dropout after the last BN, at its best rate; see `gain_at_best`."""
    members = _in_the_papers_range(evidence.dropout("after_last_bn"), TABLE4)
    contrast = gain_at_best(evidence, members)
    return [more("test error, no noise minus after_last_bn at its best rate", contrast, "points", GAIN)]


def uout_gains(evidence: Evidence) -> list[Part]:
    """C12: test error, no noise minus Uout before_weight, at its best beta, and not so on ResNeXt."""
    members = _in_the_papers_range(_uout_before_weight(evidence), TABLE6)
    is_resnext = members["model"].str.lower().str.contains("resnext")
    name, parts = "test error, no noise minus Uout before_weight at its best beta", []
    if not is_resnext.all():
        contrast = gain_at_best(evidence, members[~is_resnext])
        parts.append(more(name, contrast, "points", GAIN))
    if is_resnext.any():
        contrast = gain_at_best(evidence, members[is_resnext])
        parts.append(less(f"{name}, ResNeXt", contrast, "points", GAIN))
    return parts


def gain_at_best(evidence: Evidence, members: pd.DataFrame) -> Contrast:
    """Error without noise minus with, at the strength that serves this network best.

    The strength is chosen on the network's other seeds, so that a seed is never judged at a strength that it chose
    itself: the best of four strengths that do nothing would else seem to gain by one standard deviation.
    """
    gains = evidence.differences(members, evidence.baseline(), "test_error")
    gains = gains.assign(gain=-gains["test_error"])
    network = [*dict.fromkeys([*evidence.network, "model"])]
    chosen = [_at_best(group) for _, group in gains.groupby(network, dropna=False)]
    table = pd.concat(chosen)[[*evidence.network, "seed", "gain"]]  # not by strength: seeds differ in it
    return evidence.mean(table, "gain", members=1 + members["strength"].nunique())


def _at_best(network: pd.DataFrame) -> pd.DataFrame:
    """The row of each seed at the strength with the largest mean gain over the network's other seeds."""
    gains = network.pivot(index="seed", columns="strength", values="gain")
    if gains.shape[1] == 1:
        return network
    best = {seed: gains.drop(index=seed).mean().idxmax() for seed in gains.index} if len(gains) > 1 else {}
    return network[network["strength"] == network["seed"].map(best)]


def _in_the_papers_range(members: pd.DataFrame, command: str) -> pd.DataFrame:
    low, high = PAPER_STRENGTHS
    found = members[members["strength"].between(low, high)]
    if found.empty:
        raise CannotTestError(f"no strength from {low:g} to {high:g}, as in the paper", command)
    return found


def _uout_before_weight(evidence: Evidence) -> pd.DataFrame:
    members = evidence.where(norm="batch", noise="uout", placement="before_weight")
    if members.empty:
        raise CannotTestError("no Uout before_weight", MAIN_STUDY)
    return members


def uout_bears_little_data(evidence: Evidence) -> list[Part]:
    """C13: what less data adds to the test error of last-layer dropout minus what it adds to that of Uout.

    Mean over the strengths of either.
    """
    if "train_samples" not in evidence.network:
        raise CannotTestError("one size of training set only", LITTLE_DATA)
    sizes = evidence.members["train_samples"]
    network = [column for column in evidence.network if column != "train_samples"]
    kinds, rises = (evidence.dropout("after_last_bn"), _uout_before_weight(evidence)), []
    for members in kinds:
        mean = members.groupby([*evidence.network, "seed"], dropna=False, as_index=False)["test_error"].mean()
        small, large = (mean[mean["train_samples"] == size] for size in (sizes.min(), sizes.max()))
        pairs = small.merge(large, on=[*network, "seed"], suffixes=("", "_large"))
        rises.append(pairs.assign(rise=pairs["test_error"] - pairs["test_error_large"]))
    dropout, uout = rises
    both = dropout.merge(uout, on=[*evidence.network, "seed"], suffixes=("", "_uout"))
    strengths = sum(members["strength"].nunique() for members in kinds)
    contrast = evidence.mean(both.assign(rise=both["rise"] - both["rise_uout"]), "rise", 2 * strengths)
    few, many = int(sizes.min()), int(sizes.max())
    name = f"rise of the test error from {many} to {few} training samples, dropout minus Uout"
    return [more(name, contrast, "points", COST)]


def without_statistics_immune(evidence: Evidence) -> list[Part]:
    """Q2: eval minus train mode on the training data is no harm with group or layer norm, and less than with BN.

    Only where BN shows harm is there something to be immune to. Where that is open, it is what is undecided.
    """
    stored = evidence.where(norm="batch", noise="dropout", placement="before_bn")
    without = evidence.where(norm=["group", "layer"], noise="dropout", placement="before_bn")
    shared = set(stored["strength"]) & set(without["strength"]) - {0.0}
    if not shared:
        raise CannotTestError("no network with group or layer norm beside one with batch norm", NORMALISERS)
    rate = min(sorted(shared), key=lambda rate: abs(rate - REFERENCE_RATE))
    stored, without = (members[members["strength"] == rate] for members in (stored, without))
    harm = _less(evidence, stored, EVAL, TRAIN)
    name = f"training error, eval minus train mode, before_bn {rate:g}"
    if harm.estimate.p_below(COST) < SIGNIFICANCE:
        raise CannotTestError(
            "nothing to be immune to: BN itself shows no harm in eval mode here "
            f"({harm.estimate.value:+.2g} points)"
        )
    if not harm.estimate.p_above(COST) < SIGNIFICANCE:
        return [more(f"{name}, batch norm: is there harm to be immune to?", harm, "points", COST)]
    network = [column for column in evidence.network if column != "norm"]
    gap = "gap of the modes"
    stored, without = (
        members.assign(**{gap: members[EVAL] - members[TRAIN]}) for members in (stored, without)
    )
    pairs = without.merge(stored[[*network, "seed", gap]], on=[*network, "seed"], suffixes=("", " with BN"))
    pairs[gap] = pairs[f"{gap} with BN"] - pairs[gap]
    return [
        less(f"{name}, group and layer norm", evidence.mean(without, gap), "points", COST),
        more(f"{name}, batch norm minus group and layer norm", evidence.mean(pairs, gap, 2), "points", COST),
    ]
