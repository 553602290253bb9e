"""The audit's table: a row per BN layer, with intervals, causes and alarms."""

import itertools
import math
from collections.abc import Iterable
from typing import Any

import pandas as pd
from torch import nn

from analysis.audit.batches import Forward
from analysis.audit.causes import (
    CAUSES,
    EVIDENCE,
    FALSE_ALARM,
    TESTS,
    is_adjusted,
    is_alarm,
    means,
    stored_error,
    updates,
    variances,
)
from analysis.audit.layer import Layer
from analysis.audit.measure import measure
from analysis.audit.moments import GroupedMoments
from analysis.theory import shift_magnitude


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
        updates, momentum: of what is stored
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
        noise_mean, lag_mean, upstream_mean, data_mean: the same differences of means, in the unit of mean_shift
        is_adjusted: what is stored fits the input without noise; then neither noise nor lag is an alarm
        alarm: the causes of `CAUSES` beyond doubt and beyond 2 % of variance or 0.1 standard deviations of
            mean, comma-separated, or "". At most 1 audit in 100 of a sound network has any (Bonferroni over
            layers and measurements).
        Empty (nan) where a column has no meaning.

    Raises:
        AuditError: in a plain sentence, if the model has no BN, fails, or has NaN.
    """
    found = measure(model, batches, eval_batches, forward, seed)
    level = 1 - FALSE_ALARM / (len(found.layers) * TESTS)
    errors = [stored_error(layer) for layer in found.layers]
    # In eval mode the errors of what earlier layers stored add up.
    before = [math.hypot(*itertools.chain(*errors[:index])) for index in range(len(errors))]
    rows = [
        _row(layer, own, earlier, level)
        for layer, own, earlier in zip(found.layers, errors, before, strict=True)
    ]
    table = pd.DataFrame(rows)
    table.insert(0, "layer_index", range(1, len(table) + 1))
    table.attrs |= {
        "batches": found.batches,
        "samples": found.samples,
        "has_noise": found.has_noise,
        "always_on": found.always_on,
        "has_eval_batches": found.has_eval_batches,
    }
    return table


def _row(layer: Layer, error: tuple[float, float], before: float, level: float) -> dict[str, Any]:
    """The layer's row. `error`: of what it stored, see `stored_error`; `before`: of what earlier layers stored."""
    norm, clean = layer.norm, layer.clean if layer.is_noisy else layer.train
    row: dict[str, Any] = {
        "layer_name": layer.name,
        "channels": norm.num_features,
        "calls": layer.calls,
        "moving_var": math.nan if norm.running_var is None else float(norm.running_var.cpu().double().mean()),
        "updates": updates(norm),
        "momentum": math.nan if norm.momentum is None else norm.momentum,
        "train_var": _value(layer.train),
        "clean_var": _value(clean),
        "test_var": _value(layer.eval),
        "own_noise": ", ".join(layer.own),
        "upstream_noise": ", ".join(layer.upstream),
    }
    estimates = {
        **variances(layer, clean, row["moving_var"], error[0], before),
        **means(layer, clean, error[1], before),
    }
    for name, estimate in estimates.items():
        low, high = estimate.interval()
        row |= {name: estimate.value, f"{name}_low": low, f"{name}_high": high}
    low, high = row["shift_ratio_low"], row["shift_ratio_high"]
    row["shift_magnitude"] = shift_magnitude(row["shift_ratio"])
    row["shift_magnitude_low"] = 1.0 if low <= 1 <= high else min(shift_magnitude(low), shift_magnitude(high))
    row["shift_magnitude_high"] = max(shift_magnitude(low), shift_magnitude(high))
    row["local_ratio_exact"] = _exact(layer)
    row["cascade"] = row["test_var"] / row["train_var"] / row["local_ratio"]
    row["is_adjusted"] = layer.is_noisy and is_adjusted(layer, error, level)
    innocent = ("noise", "lag") if row["is_adjusted"] else ()
    row["alarm"] = ",".join(
        cause
        for cause in CAUSES
        if cause not in innocent and any(is_alarm(estimates[name], level) for name in EVIDENCE[cause])
    )
    return row


def _value(moments: GroupedMoments) -> float:
    return moments.layer_variance if moments.seen else math.nan


def _exact(layer: Layer) -> float:
    """The ratio by the exact law: clean variance over clean variance plus what the noise adds."""
    if not (layer.own and layer.has_law and layer.numbers):
        return math.nan
    clean = layer.local_part.layer_variance
    return clean / (clean + layer.added / layer.numbers)
