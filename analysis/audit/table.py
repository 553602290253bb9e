"""The audit's table: a row per BN layer, with intervals, causes and alarms.

Four steps lead from what BN stored to what it gets in eval mode. Their ratios of variances multiply, their
differences of means add: from stored to train mode (lag), from there to train mode without noise (noise), from
there to what differs by mode and is neither noise nor BN (branch), and from there to eval mode (upstream: what
earlier layers stored). Evaluation data that differ come on top (data).
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import asdict
from operator import or_
from typing import Any

import pandas as pd
from torch import nn

from ..theory import shift_magnitude
from . import channels
from .across_layers import settle
from .alarms import CAUSES, EVIDENCE, FALSE_ALARM, TESTS, TROUBLES, is_adjusting_advised, is_alarm
from .batch_trouble import FEW
from .batches import AuditError, Forward, Size
from .forward import Layer
from .moments import (
    GroupedMoments,
    Offset,
    Ratio,
    independent_offset,
    independent_ratio,
    offset,
    quotient,
    ratio,
)
from .passes import Measurement, measure
from .repair import Metric, accuracy
from .shown import AuditTable
from .stored import beyond_small_batches, is_adjusted, small_batches, stored_error, stored_weight, updates
from .tried import try_adjusting

NOTHING = (
    "The model has no BatchNorm layer, and nothing else in it depends on train and eval mode but noise that only "
    "train mode has: nothing to audit (a module that stores running averages would be found)."
)


def variances(layer: Layer, moving_var: float, stored_error: float, before: float) -> dict[str, Ratio]:
    """The ratios of a layer's variances by their column; nan where one has no meaning.

    `stored_error`, `before`: standard errors of the log of what it
    stored and of what earlier layers did to its input in eval mode.
    """
    unknown, certain = Ratio(math.nan, math.nan, 0), Ratio(1.0, 0.0, 2)
    has_train, has_eval, has_store = (
        layer.train.samples > 0,
        layer.eval.samples > 0,
        not math.isnan(moving_var),
    )
    clean, plain = layer.stream("clean"), layer.stream("plain")
    shift = lag = noise = branch = upstream = data = local = unknown
    if has_eval and has_store:
        shift = ratio(layer.eval, moving_var).with_error(math.hypot(stored_error, before))
    if has_train and clean.samples:
        noise = certain if clean is layer.train else ratio(clean, layer.train)
    if clean.samples and plain.samples:
        branch = certain if plain is clean else ratio(plain, clean)
    if has_train and has_store:
        lag = ratio(layer.train, moving_var).with_error(stored_error)
    if has_eval and plain.samples and has_store:
        upstream = ratio(layer.eval, plain).with_error(before)
    if has_eval and layer.fresh.samples:
        data = independent_ratio(layer.fresh, layer.eval)
    if layer.own and layer.is_followed:
        local = ratio(layer.local_part, layer.noisy_part)
    elif has_train and not layer.own:
        local = certain
    return {
        "shift_ratio": shift,
        "noise_ratio": noise,
        "branch_ratio": branch,
        "lag_ratio": lag,
        "upstream_ratio": upstream,
        "data_ratio": data,
        "local_ratio": local,
    }


def means(layer: Layer, stored_error: float, before: float) -> dict[str, Offset]:
    """The offsets between a layer's means by their column, in stored standard deviations; see `variances`."""
    unknown, certain = Offset(math.nan, math.nan, 0), Offset(0.0, 0.0, 2)
    clean, plain = layer.stream("clean"), layer.stream("plain")
    shift = lag = noise = branch = upstream = data = unknown
    has_train, has_eval = layer.train.samples > 0, layer.eval.samples > 0
    if layer.norm.running_mean is not None and layer.norm.running_var is not None:
        scale, stored = layer.norm.running_var + layer.norm.eps, layer.norm.running_mean
        if has_eval:
            shift = offset(layer.eval, stored, scale).with_error(math.hypot(stored_error, before))
        if has_train:
            # Without the stored mean's own error: statistics over few samples are off, whatever excuse they have.
            lag = offset(layer.train, stored, scale)
        if has_train and clean.samples:
            noise = certain if clean is layer.train else offset(clean, layer.train, scale)
        if clean.samples and plain.samples:
            branch = certain if plain is clean else offset(plain, clean, scale)
        if has_eval and plain.samples:
            upstream = offset(layer.eval, plain, scale).with_error(before)
        if has_eval and layer.fresh.samples:
            data = independent_offset(layer.fresh, layer.eval, scale)
    return {
        "mean_shift": shift,
        "noise_mean": noise,
        "branch_mean": branch,
        "lag_mean": lag,
        "upstream_mean": upstream,
        "data_mean": data,
    }


def audit(
    model: nn.Module,
    batches: Iterable[Any],
    eval_batches: Iterable[Any] | None = None,
    *,
    forward: Forward | None = None,
    metric: Metric | None = accuracy,
    seed: int = 0,
    size: Size | None = None,
) -> pd.DataFrame:
    """Measure the variance shift of every BN layer of a model; what the model holds is put back, see `preserve`.

    Args:
        model: any module. Functional dropout, stochastic depth and shared layers are understood.
        batches: training batches, as they go into the model in training: tensors, tuples or lists (input first,
            labels last), dicts (keyword arguments). Read once. 500 samples give intervals of a few per cent.
        eval_batches: what eval mode is used on, to tell apart data that differ from training.
        forward: `forward(model, batch)`, where calling the model is not as plain as that.
        metric: `metric(model, batches)`, higher is better; by default the accuracy in per cent. Where adjusting
            would be advised, it is tried first, on `eval_batches` if there are any: another three passes. None
            leaves it out, and so do batches that can be read only once or have no class labels.
        size: `size(batch)`, the number of its samples, where labels or the first tensor do not tell.
        seed: of torch, numpy and Python during the audit: the same seed gives the same numbers.

    Returns:
        A row per BN layer, in the order in which the data reach them. Variances are unbiased, pooled over the same
        samples and positions in each mode; a layer's value is the channel mean, and ratios are of those. Each
        ratio has its 95 % interval in the columns _low and _high.

        layer_index, layer_name, channels, calls (per forward; above 1 for a shared layer)
        moving_var, train_var, clean_var (as train, noise off), test_var (eval mode)
        updates, momentum, eps: of what is stored; is_tracked: not track_running_stats=False with statistics kept;
            stored_as: their precision; is_doubled: activation checkpointing updates them twice a training step
        shift_ratio = test_var / moving_var, shift_magnitude = max(r, 1/r); below 1, BN divides by too much
        mean_shift: of the input in eval mode from the stored mean, root mean square over channels, in stored
            standard deviations
        own_noise, upstream_noise: what feeds it, before and behind the last BN on the way
        local_ratio: the shift if only this layer's own noise is taken out; local_ratio_exact: by theory;
            cascade = (test_var / train_var) / local_ratio
        noise_ratio = clean_var / train_var: what noise does
        branch_ratio: what else is not the same in train and eval mode does, such as a branch on `self.training`
        lag_ratio = train_var / moving_var: what the stored statistics lag behind
        upstream_ratio: what the stored statistics of earlier layers do to this one
            (these four multiply to shift_ratio)
        data_ratio = variance on eval_batches / test_var
        noise_mean, branch_mean, lag_mean, upstream_mean, data_mean: the same differences of means, in the unit of
            mean_shift
        keeps: "eval" for a layer that stays in eval mode after `model.train()`, frozen; "train" for one that
            normalises by its batch after `model.eval()` too. Then neither noise nor lag is an alarm
        is_adjusted: what is stored fits the input without noise; then neither noise nor lag is an alarm
        alarm: the causes of `CAUSES` beyond doubt and beyond 2 % of variance or 0.1 standard deviations of
            mean, or beyond 25 % or 0.25 of a single channel; then what no statistics mend, `TROUBLES`;
            comma-separated, or "". At most 1 audit in 100 of a sound network has any (Bonferroni over
            layers and measurements).
        log_ratio_rms: of each channel's log((test_var + eps) / (moving_var + eps)), root mean square over
            channels, less what sampling alone makes of it; channels_off: which channels are off, in words;
            is_permuted: what is stored fits but for the order of the channels; faint_channels: stored with a
            variance far below eps
        batch_spread: how much the means of batches differ, as a multiple of what those of random batches do;
            batch_values: values per channel in a batch; independent_values: as how many independent ones they
            count
        step_ratio, step_mean: how far variances and means of a shared layer's calls are from their average
        shift_ratio_predicted: by the closure, of a network that is a chain which it knows, see `chain`
        Empty (nan) where a column has no meaning.

    Raises:
        AuditError: in a plain sentence, if the model has no BN and nothing else in it depends on the mode, fails,
            or has NaN; if what it stores cannot work; if noise leaves nothing to measure; if the batches fail or
            are empty; if the model cannot be put back.
    """
    measurement = measure(model, batches, eval_batches, forward, seed, size)
    findings, norms = measurement.findings, measurement.norms
    level = 1 - FALSE_ALARM / (max(len(measurement.layers), 1) * TESTS)
    errors = [stored_error(layer) for layer in measurement.layers]
    # In eval mode the errors of what earlier layers stored add up.
    before = [math.hypot(*itertools.chain(*errors[:index])) for index in range(len(errors))]
    has_stores = list(
        itertools.accumulate(map(_is_in_use, measurement.layers), initial=bool(norms.unreadable), func=or_)
    )
    rows = [
        _row(layer, own, earlier, has_store, level)
        for layer, own, earlier, has_store in zip(
            measurement.layers, errors, before, has_stores, strict=False
        )
    ]
    are_smaller = settle(rows)
    if not rows:
        if not _is_telling(measurement):
            raise AuditError(NOTHING)
        nobody = Layer("", nn.BatchNorm1d(1))
        rows = [_row(nobody, (0.0, 0.0), 0.0, False, level)]
    table = AuditTable(AuditTable(rows).iloc[: len(measurement.layers)])
    table.insert(0, "layer_index", range(1, len(table) + 1))
    table["shift_ratio_predicted"] = table["layer_name"].map(measurement.predicted).astype(float)
    table.attrs |= {
        "batches": measurement.batches,
        "samples": measurement.samples,
        "left_out": measurement.left_out,
        "are_smaller": are_smaller,
        "has_eval_batches": measurement.has_eval_batches,
        "unreadable": {name: type(module).__name__ for name, module in norms.unreadable.items()},
        "functional": {name: type(module).__name__ for name, module in norms.functional.items()},
        "per_sample": [name for name, norm in norms.readable.items() if norm.per_sample],
        **asdict(findings),
    }
    if metric is not None and is_adjusting_advised(table):
        table.attrs["tried"] = try_adjusting(model, batches, eval_batches, metric, forward=forward, size=size)
    return table


def _is_in_use(layer: Layer) -> bool:
    """Whether a layer normalises by its batch in train mode, and by what it stores in eval mode."""
    return not layer.keeps and layer.norm.running_var is not None


def _is_telling(measurement: Measurement) -> bool:
    """Whether there is anything to say of a model without BN."""
    found, norms = measurement.findings, measurement.norms
    return bool(found.always_on or found.differs or found.moving or norms.unreadable or norms.functional)


def _row(
    layer: Layer, error: tuple[float, float], before: float, has_store_before: bool, level: float
) -> dict[str, Any]:
    """The layer's row. `error`: of what it stored, see `stored_error`; `before`: of what earlier layers stored.

    `has_store_before`: whether any of these stores something that eval mode uses and train mode does not.
    """
    norm = layer.norm
    row: dict[str, Any] = {
        "layer_name": layer.name,
        "channels": norm.num_features,
        "calls": layer.calls,
        "moving_var": math.nan if norm.running_var is None else float(norm.running_var.cpu().double().mean()),
        "updates": updates(norm),
        "momentum": math.nan if norm.momentum is None else norm.momentum,
        "keeps": layer.keeps,
        "eps": norm.eps,
        "is_tracked": layer.is_tracked,
        "stored_as": "" if norm.running_var is None else str(norm.running_var.dtype).removeprefix("torch."),
        "is_doubled": layer.is_checkpointed,
        "train_var": _value(layer.train),
        "clean_var": _value(layer.stream("clean")),
        "test_var": _value(layer.eval),
        "own_noise": ", ".join(layer.own),
        "upstream_noise": ", ".join(layer.upstream),
    }
    estimates = {
        **variances(layer, row["moving_var"], error[0], before),
        **means(layer, error[1], before),
    }
    for name, estimate in estimates.items():
        low, high = estimate.interval()
        row |= {name: estimate.value, f"{name}_low": low, f"{name}_high": high}
    low, high = row["shift_ratio_low"], row["shift_ratio_high"]
    row["shift_magnitude"] = shift_magnitude(row["shift_ratio"])
    row["shift_magnitude_low"] = 1.0 if low <= 1 <= high else min(shift_magnitude(low), shift_magnitude(high))
    row["shift_magnitude_high"] = max(shift_magnitude(low), shift_magnitude(high))
    row["local_ratio_exact"] = _exact(layer)
    row["cascade"] = quotient(quotient(row["test_var"], row["train_var"]), row["local_ratio"])
    row["is_adjusted"] = bool(layer.is_noisy or layer.is_branched) and is_adjusted(layer, error, level)
    innocent = (
        {"noise", "lag", "branch"} if row["is_adjusted"] else {"noise", "lag"} if layer.keeps else set()
    )
    tested = estimates | {"lag_ratio": beyond_small_batches(estimates["lag_ratio"], layer)}
    whole = {cause for cause in CAUSES if any(is_alarm(tested[name], level) for name in EVIDENCE[cause])}
    by_channel, off = channel_columns(layer, level, whole)
    by_batch, troubles = batch_columns(layer, level)
    row |= by_channel | by_batch
    guilty = (whole | set(off)) - innocent
    if "upstream" in guilty and not has_store_before:
        # No earlier layer is at fault: the model asks BN for its mode, unless the layer's own calls explain it.
        guilty = guilty - {"upstream"} | (set() if troubles else {"branch"})
    row["alarm"] = ",".join([*(cause for cause in CAUSES if cause in guilty), *troubles])
    return row


def channel_columns(layer: Layer, level: float, whole: set[str]) -> tuple[dict[str, Any], list[str]]:
    """The columns of what single channels show, and the causes by which some of them are off.

    `whole`: causes by which the layer as a whole is off. Of noise, which then is in every channel, none is named.
    """
    norm, has_train, has_eval = layer.norm, layer.train.samples > 0, layer.eval.samples > 0
    clean = layer.stream("clean")
    has_store = norm.running_mean is not None and norm.running_var is not None
    found: dict[str, channels.Channels] = {}
    if has_train and clean.samples and clean is not layer.train:
        found["noise"] = channels.between(clean, layer.train, norm, is_paired=True)
    if has_train and has_store:
        found["lag"] = channels.from_stored(layer.train, norm, stored_weight(layer))
    if has_eval and layer.fresh.samples:
        found["data"] = channels.between(layer.fresh, layer.eval, norm, is_paired=False)
    excused = {"lag": small_batches(layer)}
    off = {cause: of.off(level, excused.get(cause, 1.0)) for cause, of in found.items()}
    words = [
        channels.in_words(cause, of, off[cause])
        for cause, of in found.items()
        if cause != "noise" or cause not in whole
    ]
    in_eval = channels.from_stored(layer.eval, norm, stored_weight(layer)) if has_eval and has_store else None
    columns = {
        "log_ratio_rms": math.nan if in_eval is None else in_eval.log_ratio_rms,
        "channels_off": "; ".join(filter(None, words)),
        "is_permuted": "lag" in off and channels.is_permuted(layer.train, norm, found["lag"], off["lag"]),
        "faint_channels": ", ".join(map(str, channels.faint(norm))) if has_train or has_eval else "",
    }
    return columns, [cause for cause in off if off[cause].any()]


def batch_columns(layer: Layer, level: float) -> tuple[dict[str, Any], list[str]]:
    """The columns of what batches and calls show that no statistics mend, and which of `TROUBLES` there are."""
    values, steps = layer.train.numbers_a_batch, layer.steps.found(layer.norm, level)
    independent = layer.spread.independent_values(layer.eval.variance) if layer.eval.samples else math.nan
    differ = layer.spread.is_alarm(level)
    has_few = values <= FEW or (layer.eval.samples > 0 and layer.spread.is_few(layer.eval.variance, level))
    few = layer.train.samples > 0 and not differ and has_few
    columns = {
        "batch_spread": layer.spread.ratio,
        "batch_values": values if layer.train.samples else math.nan,
        "independent_values": independent,
        "step_ratio": steps.ratio,
        "step_mean": steps.offset,
    }
    is_there = dict(zip(TROUBLES, (differ, steps.is_alarm, few), strict=True))
    is_frozen = layer.keeps == "eval"  # which normalises by no batch
    return columns, [trouble for trouble in TROUBLES if is_there[trouble] and not is_frozen]


def _value(moments: GroupedMoments) -> float:
    return moments.layer_variance if moments.samples else math.nan


def _exact(layer: Layer) -> float:
    """The ratio by the exact law: clean variance over clean variance plus what the noise adds."""
    if not (layer.own and layer.has_law and layer.numbers):
        return math.nan
    clean = layer.local_part.layer_variance
    return quotient(clean, clean + layer.added / layer.numbers)
