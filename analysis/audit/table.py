"""The audit's table: a row per BN layer, with intervals, causes and alarms."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from analysis.audit.batches import Forward
from analysis.audit.measure import Layer, Measurement, measure
from analysis.audit.statistics import GroupedMoments, Ratio, independent_ratio, ratio
from analysis.theory import shift_magnitude

FALSE_ALARM = 0.01  # chance that an audit of a sound network raises any alarm
TOLERANCE = 0.02  # a shift below 2 % is no alarm even where it is certain
CAUSES = ("noise", "lag", "upstream", "data")
# Behind other noisy layers, switching all noise off can leave a variance as it was while a layer's own adds to it.
_EVIDENCE = {"noise": ("noise", "local")}


def audit(
    model: nn.Module,
    batches: Iterable[Any],
    eval_batches: Iterable[Any] | None = None,
    *,
    forward: Forward | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure the variance shift of every BN layer of a model; the model is left exactly as it was.

    Args:
        model: any module. Functional dropout, stochastic depth and shared layers are understood.
        batches: training batches, as they go into the model in training: tensors, tuples or lists (input first,
            labels last), dicts (keyword arguments). Read once. 500 samples give intervals of a few per cent.
        eval_batches: what eval mode is used on, to tell apart data that differ from training.
        forward: `forward(model, batch)`, where calling the model is not as plain as that.
        seed: of the noise during the audit: the same seed gives the same numbers.

    Returns:
        A row per BN layer, in the order in which the data reach them. Variances are unbiased, pooled over the same
        samples and positions in each mode; a layer's value is the channel mean, and ratios are of those. Each
        ratio has its 95 % interval in the columns _low and _high.

        layer_index, layer_name, channels, calls (per forward; above 1 for a shared layer)
        moving_var, train_var, clean_var (as train, noise off), test_var (eval mode)
        shift_ratio = test_var / moving_var, shift_magnitude = max(r, 1/r); below 1, BN divides by too much
        mean_shift: of the input in eval mode from the stored mean, root mean square over channels, in stored
            standard deviations
        own_noise, upstream_noise: what feeds it, before and behind the last BN on the way
        local_ratio: the shift if only this layer's own noise is taken out; local_ratio_exact: by theory;
            cascade = (test_var / train_var) / local_ratio
        noise_ratio = clean_var / train_var: what noise does
        lag_ratio = train_var / moving_var: what the stored statistics lag behind
        upstream_ratio = test_var / clean_var: what the stored statistics of earlier layers do to this one
            (these three multiply to shift_ratio)
        data_ratio = variance on eval_batches / test_var
        is_adjusted: what is stored fits the input without noise; then neither noise nor lag is an alarm
        alarm: the causes of `CAUSES` beyond doubt and beyond 2 %, comma-separated, or "". At most 1 audit in
            100 of a sound network has any (Bonferroni over layers and causes).
        Empty (nan) where a column has no meaning.

    Raises:
        AuditError: in a plain sentence, if the model has no BN, fails, or has NaN.
    """
    found = measure(model, batches, eval_batches, forward, seed)
    stored = [_stored_error(layer, found) for layer in found.layers]
    rows = [_row(index, layer, found, stored) for index, layer in enumerate(found.layers, 1)]
    table = pd.DataFrame(rows)
    table.attrs |= {
        "batches": found.batches,
        "samples": found.samples,
        "has_noise": found.has_noise,
        "has_eval_batches": found.has_eval_batches,
    }
    return table


def _row(index: int, layer: Layer, found: Measurement, stored: list[float]) -> dict[str, Any]:
    moving = found.stored_var[layer.name]
    moving_var = float(moving.double().mean()) if moving is not None else math.nan
    row: dict[str, Any] = {
        "layer_index": index,
        "layer_name": layer.name,
        "channels": layer.norm.num_features,
        "calls": layer.calls,
        "moving_var": moving_var,
        "updates": _updates(layer),
        "train_var": _value(layer.train),
        "clean_var": _value(layer.clean if found.has_noise else layer.train),
        "test_var": _value(layer.eval),
        "mean_shift": _mean_shift(layer, found),
        "own_noise": ", ".join(layer.own),
        "upstream_noise": ", ".join(layer.upstream),
    }
    ratios = _ratios(layer, found, moving_var, index, stored)
    for name, value in ratios.items():
        low, high = value.interval()
        row |= {name: value.value, f"{name}_low": low, f"{name}_high": high}
    low, high = row["shift_ratio_low"], row["shift_ratio_high"]
    row["shift_magnitude"] = shift_magnitude(row["shift_ratio"])
    row["shift_magnitude_low"] = 1.0 if low <= 1 <= high else min(shift_magnitude(low), shift_magnitude(high))
    row["shift_magnitude_high"] = max(shift_magnitude(low), shift_magnitude(high))
    row["local_ratio_exact"] = _exact(layer)
    row["cascade"] = row["test_var"] / row["train_var"] / row["local_ratio"]
    tests = len(found.layers) * (len(CAUSES) + 1)
    row["is_adjusted"] = _is_adjusted(layer, row, stored[index - 1], tests)
    innocent = ("noise", "lag") if row["is_adjusted"] else ()
    row["alarm"] = ",".join(
        cause
        for cause in CAUSES
        if cause not in innocent
        and any(_is_alarm(ratios[f"{name}_ratio"], tests) for name in _EVIDENCE.get(cause, (cause,)))
    )
    return row


def _ratios(
    layer: Layer, found: Measurement, moving_var: float, index: int, stored: list[float]
) -> dict[str, Ratio]:
    nothing = Ratio(math.nan, math.nan, 0)
    clean = layer.clean if found.has_noise else layer.train
    own_error = stored[index - 1]
    # In eval mode the errors of what earlier layers stored add up; the stored means have as much as the variances.
    before = math.sqrt(2 * sum(error**2 for error in stored[: index - 1]))
    seen, tested = layer.train.seen > 0, layer.eval.seen > 0
    has_store = not math.isnan(moving_var)
    shift = ratio(layer.eval, moving_var).with_error(math.hypot(own_error, before)) if tested else nothing
    fed = bool(layer.own or layer.upstream)
    local = nothing
    if layer.own and layer.is_followed:
        local = ratio(layer.local_part, layer.noisy_part)
    elif seen and not layer.own:
        local = Ratio(1.0, 0.0, 2)
    return {
        "shift_ratio": shift,
        "noise_ratio": (ratio(clean, layer.train) if fed else Ratio(1.0, 0.0, 2))
        if seen and clean.seen
        else nothing,
        "lag_ratio": ratio(layer.train, moving_var).with_error(own_error) if seen and has_store else nothing,
        "upstream_ratio": (
            ratio(layer.eval, clean).with_error(before) if tested and clean.seen and has_store else nothing
        ),
        "data_ratio": independent_ratio(layer.fresh, layer.eval) if layer.fresh.seen and tested else nothing,
        "local_ratio": local,
    }


def _stored_error(layer: Layer, found: Measurement) -> float:
    """Standard error of log moving_var: an average over few training batches is itself uncertain.

    With momentum a the batches weigh a (1 - a)^i; their squares sum to a / (2 - a), 1/19 at a = 0.1, as if
    the average were over 19 batches, or over as many as there were. Training batches are taken to
    be as large as those of the audit.
    """
    if not layer.train.seen or found.stored_var[layer.name] is None:
        return 0.0
    updates, momentum = _updates(layer), layer.norm.momentum
    if not updates:
        return 0.0
    weights = max(1 / updates, momentum / (2 - momentum) if momentum is not None else 0.0)
    error = ratio(layer.train, 1.0).log_error
    return 0.0 if math.isnan(error) else error * math.sqrt(weights * layer.train.batches)


def _updates(layer: Layer) -> int:
    tracked = layer.norm.num_batches_tracked
    return int(tracked) if tracked is not None else 0


def _value(moments: GroupedMoments) -> float:
    return moments.layer_variance if moments.seen else math.nan


def _mean_shift(layer: Layer, found: Measurement) -> float:
    mean, variance = found.stored_mean[layer.name], found.stored_var[layer.name]
    if mean is None or variance is None or not layer.eval.seen:
        return math.nan
    offset = (layer.eval.mean - mean.double()).square() / (variance.double() + layer.norm.eps)
    return float(torch.sqrt(offset.mean()))


def _exact(layer: Layer) -> float:
    """The ratio by the exact law: clean variance over clean variance plus what the noise adds."""
    if not (layer.own and layer.has_law and layer.added.seen):
        return math.nan
    clean = layer.local_part.layer_variance
    return clean / (clean + layer.added.layer_mean)


def _is_adjusted(layer: Layer, row: dict[str, Any], stored_error: float, tests: int) -> bool:
    """Whether what is stored fits the input without noise, and fits it better than the one with noise."""
    if not layer.clean.seen or not row["moving_var"] > 0:
        return False
    clean = ratio(layer.clean, row["moving_var"]).with_error(stored_error)
    is_nearer = abs(math.log(clean.value)) < abs(math.log(row["lag_ratio"]))
    return is_nearer and not _is_alarm(clean, tests)


def _is_alarm(value: Ratio, tests: int) -> bool:
    """Whether a ratio is off by more than the tolerance, beyond doubt at the level of the whole audit."""
    low, high = value.interval(1 - FALSE_ALARM / tests)
    certain = high < 1 or low > 1 if np.isfinite([low, high]).all() else False
    return bool(certain and shift_magnitude(value.value) > 1 + TOLERANCE)
