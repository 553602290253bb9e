"""Telling the causes of a shift apart: what each makes of a layer's variance and mean, and when it is an alarm.

Of what BN stored to what it gets in eval mode there are three steps, whose ratios of variances multiply and whose
differences of means add: from stored to train mode (lag), from there to train mode without noise (noise), and from
there to eval mode (upstream: what earlier layers stored). Evaluation data that differ come on top (data).
"""

import math

from torch.nn.modules.batchnorm import _BatchNorm

from analysis.audit.layer import Layer
from analysis.audit.statistics import (
    GroupedMoments,
    Offset,
    Ratio,
    independent_offset,
    independent_ratio,
    offset,
    ratio,
)
from analysis.theory import shift_magnitude

FALSE_ALARM = 0.01  # chance that an audit of a sound network raises any alarm
TOLERANCE = 0.02  # a variance off by less than 2 % is no alarm even where it is certain
MEAN_TOLERANCE = 0.1  # nor is a mean off by less than 0.1 standard deviations
CAUSES = ("noise", "lag", "upstream", "data")
# Behind other noisy layers, switching all noise off can leave a variance as it was while a layer's own adds to it.
_ALSO = {"noise": ("local_ratio",)}
EVIDENCE = {cause: (f"{cause}_ratio", f"{cause}_mean", *_ALSO.get(cause, ())) for cause in CAUSES}
TESTS = sum(map(len, EVIDENCE.values()))  # per layer


def variances(
    layer: Layer, clean: GroupedMoments, moving_var: float, stored_error: float, before: float
) -> dict[str, Ratio]:
    """The ratios of a layer's variances by their column; nan where one has no meaning.

    `clean`: its input in train mode without noise. `stored_error`, `before`: standard errors of the log of what it
    stored and of what earlier layers did to its input in eval mode.
    """
    unknown, certain = Ratio(math.nan, math.nan, 0), Ratio(1.0, 0.0, 2)
    seen, tested, has_store = layer.train.seen > 0, layer.eval.seen > 0, not math.isnan(moving_var)
    shift = lag = noise = upstream = data = local = unknown
    if tested and has_store:
        shift = ratio(layer.eval, moving_var).with_error(math.hypot(stored_error, before))
    if seen and clean.seen:
        noise = certain if clean is layer.train else ratio(clean, layer.train)
    if seen and has_store:
        lag = ratio(layer.train, moving_var).with_error(stored_error)
    if tested and clean.seen and has_store:
        upstream = ratio(layer.eval, clean).with_error(before)
    if tested and layer.fresh.seen:
        data = independent_ratio(layer.fresh, layer.eval)
    if layer.own and layer.is_followed:
        local = ratio(layer.local_part, layer.noisy_part)
    elif seen and not layer.own:
        local = certain
    return {
        "shift_ratio": shift,
        "noise_ratio": noise,
        "lag_ratio": lag,
        "upstream_ratio": upstream,
        "data_ratio": data,
        "local_ratio": local,
    }


def means(layer: Layer, clean: GroupedMoments, stored_error: float, before: float) -> dict[str, Offset]:
    """The offsets between a layer's means by their column, in stored standard deviations; see `variances`."""
    unknown = Offset(math.nan, math.nan, 0)
    shift = lag = noise = upstream = data = unknown
    seen, tested = layer.train.seen > 0, layer.eval.seen > 0
    if layer.norm.running_mean is not None and layer.norm.running_var is not None:
        scale, stored = layer.norm.running_var + layer.norm.eps, layer.norm.running_mean
        if tested:
            shift = offset(layer.eval, stored, scale).with_error(math.hypot(stored_error, before))
        if seen:
            # Without the stored mean's own error: statistics over few samples are off, whatever excuse they have.
            lag = offset(layer.train, stored, scale)
        if seen and clean.seen:
            noise = Offset(0.0, 0.0, 2) if clean is layer.train else offset(clean, layer.train, scale)
        if tested and clean.seen:
            upstream = offset(layer.eval, clean, scale).with_error(before)
        if tested and layer.fresh.seen:
            data = independent_offset(layer.fresh, layer.eval, scale)
    return {
        "mean_shift": shift,
        "noise_mean": noise,
        "lag_mean": lag,
        "upstream_mean": upstream,
        "data_mean": data,
    }


def stored_error(layer: Layer) -> tuple[float, float]:
    """Standard errors of log moving_var and of the stored mean: averages over few training batches are uncertain.

    With momentum a the batches weigh a (1 - a)^i; their squares sum to a / (2 - a), 1/19 at a = 0.1, as if
    the average were over 19 batches, or over as many as there were. Training batches are taken to
    be as large as those of the audit.
    """
    count, momentum = updates(layer.norm), layer.norm.momentum
    if not (count and layer.train.seen) or layer.norm.running_var is None:
        return 0.0, 0.0
    weights = max(1 / count, momentum / (2 - momentum) if momentum is not None else 0.0)
    errors = (
        ratio(layer.train, 1.0).log_error,
        offset(layer.train, layer.train.mean, layer.train.variance + layer.norm.eps).error,
    )
    factor = math.sqrt(weights * layer.train.batches)
    variance, mean = (0.0 if math.isnan(error) else error * factor for error in errors)
    return variance, mean


def updates(norm: _BatchNorm) -> int:
    """How many batches went into what the layer stored; 0 where that is not known."""
    return int(norm.num_batches_tracked) if norm.num_batches_tracked is not None else 0


def is_adjusted(layer: Layer, error: tuple[float, float], level: float) -> bool:
    """Whether what is stored fits the input without noise, and fits it better than the one with noise."""
    norm = layer.norm
    if not layer.clean.seen or norm.running_mean is None or norm.running_var is None:
        return False
    stored = float(norm.running_var.cpu().double().mean())
    clean = ratio(layer.clean, stored).with_error(error[0])
    mean = offset(layer.clean, norm.running_mean, norm.running_var + norm.eps)
    is_nearer = shift_magnitude(clean.value) < shift_magnitude(layer.train.layer_variance / stored)
    return is_nearer and not is_alarm(clean, level) and not is_alarm(mean, level)


def is_alarm(estimate: Ratio | Offset, level: float) -> bool:
    """Whether an estimate is off by more than the tolerance, beyond doubt at this level."""
    low, high = estimate.interval(level)
    if math.isnan(low):
        return False
    if isinstance(estimate, Offset):
        return low > MEAN_TOLERANCE
    return (high < 1 or low > 1) and shift_magnitude(estimate.value) > 1 + TOLERANCE
