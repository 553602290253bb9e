"""The audit's table in plain words: the verdict, the causes, and advice."""

import math

import pandas as pd

from . import trouble_words, upkeep
from .alarms import EVIDENCE, FALSE_ALARM, MEAN_TOLERANCE, TOLERANCE, is_adjusting_advised
from .modal import by_mode, mode_advice
from .tried import Trial

SHOWN = 5  # layers that are explained one by one
NAMED = 8  # channels that a remark names


def diagnosis(table: pd.DataFrame) -> str:
    """Say what is wrong with the network, worst layer first, and what to do.

    Args:
        table: from `audit`.

    Returns:
        A few lines: the verdict; the layers with an alarm; a line for each of the three causes, also where one is
        innocent, and for each thing that depends on the mode in another way; advice; remarks, among them why a
        layer was not measured.
    """
    alarmed = table[table["alarm"] != ""]
    sizes = sorted(((_size(row), -index) for index, (_, row) in enumerate(alarmed.iterrows())), reverse=True)
    worst = alarmed.iloc[[-index for _, index in sizes]]
    lines = [_verdict(table, worst), *(_layer(row) for _, row in worst.head(SHOWN).iterrows())]
    if len(worst) > SHOWN:
        lines.append(f"  ... and {_layers(len(worst) - SHOWN, 'more ')}, see the table.")
    about_layers = [_noise(table), _lag(table), _data(table)] if len(table) else []
    lines += ["", "Causes", *about_layers, *trouble_words.of_network(table), *by_mode(table)]
    advice = _advice(table)
    lines += ["", "What to do", *advice] if advice else []
    remarks = _remarks(table)
    lines += ["", "Remarks", *remarks] if remarks else []
    return "\n".join(lines)


def _verdict(table: pd.DataFrame, worst: pd.DataFrame) -> str:
    level = (
        f"(alarms need more than {TOLERANCE:.0%} of variance or {MEAN_TOLERANCE} standard deviations of mean; at "
        f"most {FALSE_ALARM:.0%} of sound networks raise any; {table.attrs.get('samples', 0)} samples)"
    )
    if table.empty:
        return "The model has no BatchNorm layer, so no statistics are off; but its modes need a look, see Causes."
    reached = table[(table["calls"] > 0) | table["test_var"].notna()]
    if len(reached) and (reached["keeps"] == "eval").all() and worst.empty:
        many = _layers(len(reached), "BN ")
        return f"No shift: all {many} are frozen, so train and eval agree in them; do not adjust {level}."
    if worst.empty and len(reached) and reached["moving_var"].isna().all():
        return f"No BN layer stores statistics, so eval mode uses each batch as train mode does {level}."
    left_out = int((table["shift_ratio_low"].isna() & (table["alarm"] == "")).sum())
    if left_out == len(table):
        return f"Not measured: nothing can be said of {_layers(left_out, 'BN ')}, see Remarks {level}."
    rest = f", {left_out} not measured" if left_out else ""
    if worst.empty:
        measured = _layers(len(table) - left_out, "measured BN " if left_out else "BN ")
        return f"No shift: in all {measured}, eval mode agrees with what is stored{rest} {level}."
    verb = "is" if len(worst) == 1 else "are"
    return f"{len(worst)} of {_layers(len(table), 'BN ')} {verb} off{rest} {level}. Worst first:"


def _layer(row: pd.Series) -> str:
    low, high = row["shift_ratio_low"], row["shift_ratio_high"]
    interval = f" [{low:.3g}, {high:.3g}]" if math.isfinite(low) else ""
    parts = [f"eval variance is {row['shift_ratio']:.3g}{interval} of the stored one"]
    if math.isnan(row["shift_ratio"]):
        parts = ["used in train mode only"]
    if row["mean_shift_low"] > MEAN_TOLERANCE:
        parts[0] += f", its mean {row['mean_shift']:.2g} standard deviations off"
    causes = row["alarm"].split(",")
    if "noise" in causes:
        feeds = row["own_noise"] or row["upstream_noise"] or "noise that has no name"
        if row["own_noise"] and math.isfinite(row["local_ratio"]):
            parts.append(f"its own noise alone, {feeds}, makes it x{row['local_ratio']:.3g}")
        else:
            parts.append(f"all noise off makes it x{row['noise_ratio']:.3g} ({feeds})")
        if math.isfinite(row["shift_ratio_predicted"]):
            closure = f"closure predicts x{row['shift_ratio_predicted']:.3g}"
            parts.append(f"{closure}, measured x{row['shift_ratio']:.3g}")
    words = {
        "branch": "it gets something else in train than in eval mode, {}",
        "lag": "train mode has {} of the stored one",
        "upstream": "what earlier layers stored makes it {}",
        "data": "evaluation data have {} of that of the training data",
    }
    parts += [
        text.format(_amount(row, cause))
        for cause, text in words.items()
        if cause in causes and not upkeep.is_of_channels(row, cause)
    ]
    if row["channels_off"] and {"noise", "lag", "data"} & set(causes):
        order = "; what is stored fits in another order of the channels" if row["is_permuted"] else ""
        parts.append(row["channels_off"] + order)
    parts += trouble_words.of_layer(row)
    return f"  {row['layer_name']}: {'; '.join(parts)}."


def _amount(row: pd.Series, cause: str) -> str:
    """The effect of a cause on a layer's variance, and on its mean where that is more than nothing."""
    has_mean = row[f"{cause}_mean_low"] > MEAN_TOLERANCE
    offset = f" (and its mean {row[f'{cause}_mean']:.2g} standard deviations off)" if has_mean else ""
    return f"x{row[f'{cause}_ratio']:.3g}{offset}"


def _noise(table: pd.DataFrame) -> str:
    hit = _with(table, "noise")
    if not hit.empty:
        own = hit[(hit["own_noise"] != "") & hit["local_ratio"].notna()]
        row = _most(own, "local_ratio") if len(own) else _most(hit, "noise_ratio")
        size, exact = row["local_ratio" if len(own) else "noise_ratio"], row["local_ratio_exact"]
        law = f" (the exact law says {exact:.3g})" if math.isfinite(exact) else ""
        feeds = row["own_noise"] or row["upstream_noise"] or "noise that has no name"
        where = f"{_layers(len(hit))}; most at {row['layer_name']}"
        return f"  Noise before BN: yes, {where}, x{size:.3g}{law} from {feeds}."
    if not table.attrs.get("has_noise", True):
        return "  Noise before BN: no, the network has none."
    if set(table["keeps"]) == {"eval"}:
        return "  Noise before BN: there is some, but all BN layers are frozen."
    if (table["own_noise"] + table["upstream_noise"] == "").all():
        alone = " that train mode has alone" if table.attrs.get("always_on") else ""
        return f"  Noise before BN: no, none{alone} comes before a BN layer."
    if table["is_adjusted"].any():
        return "  Noise before BN: there is some, but what is stored is without it, as after an adjustment."
    return "  Noise before BN: there is some, but it moves no layer beyond doubt."


def _lag(table: pd.DataFrame) -> str:
    hit = _with(table, "lag")
    if hit.empty:
        is_measured = (table["lag_ratio_low"].notna() & (table["keeps"] == "")).any()
        agree = "no, they agree with these batches"
        return f"  Stored statistics that lag: {agree if is_measured else 'not measured'}."
    row = _most(hit, "lag_ratio", "lag_mean")
    doubt = "" if table.attrs.get("has_eval_batches") else " (or these batches are not those of training)"
    if table["calls"].gt(0).any() and "lag" not in table[table["calls"] > 0]["alarm"].iloc[0].split(","):
        batch = table.attrs["samples"] / max(table.attrs["batches"], 1)
        doubt = (
            f" (or training had batches of another size than {batch:.3g} samples: only the first layer, which "
            "agrees, does not depend on it)"
        )
    amount = f"train mode has {_amount(row, 'lag')} of the stored variance"
    if upkeep.is_of_channels(row, "lag"):
        amount = row["channels_off"]
    return (
        f"  Stored statistics that lag: yes, {_layers(len(hit))}; most at {row['layer_name']}, where {amount}"
        f"{upkeep.why(row, table)}{doubt}."
    )


def _data(table: pd.DataFrame) -> str:
    if not table.attrs.get("has_eval_batches"):
        return "  Data that differ: not asked; give the evaluation batches as well to know."
    hit = _with(table, "data")
    if hit.empty:
        is_measured = table["data_ratio_low"].notna().any()
        alike = "no, evaluation data have the moments of the training data"
        return f"  Data that differ: {alike if is_measured else 'not measured'}."
    row = hit.iloc[0]
    return (
        f"  Data that differ: yes, {_layers(len(hit))}, the first {row['layer_name']}: evaluation data have "
        f"{_amount(row, 'data')} of the variance of the training data."
    )


def _advice(table: pd.DataFrame) -> list[str]:
    lines = []
    noise, lag, data = (_with(table, cause) for cause in ("noise", "lag", "data"))
    if is_adjusting_advised(table):
        lines.append(_now(table.attrs.get("tried"), "" if noise.empty else " without noise"))
    if not noise.empty:
        names = list(dict.fromkeys(name for own in noise["own_noise"] if own for name in own.split(", ")))
        moved = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        lines.append(
            f"  - When you train again: move {moved or 'the noise'} behind the last BN layer, or put "
            "weaker noise into a copy: model = replace_noise(model, 'uout', 0.0033) (the paper's Uout, beta 0.1)."
        )
    if _with(table, "batches").empty:
        lines += [f"  - {line}" for line in upkeep.advice(_without(lag, "steps"), table)]
    lines += [f"  - {line}" for line in trouble_words.advice(table)]
    if not data.empty:
        lines.append(
            "  - Compare the preprocessing of training and evaluation (scaling, cropping, augmentation) first; "
            "if the data must differ, adjust(model, evaluation_batches) fits BN to them."
        )
    return [*lines, *mode_advice(table)]


def _now(tried: Trial | None, how: str) -> str:
    """The advice to adjust, or not to, as it came out when it was tried."""
    adjusting = f"adjust(model, training_batches) re-estimates the statistics{how}, in place"
    if tried is None:
        return f"  - Now: {adjusting}. Whether that helps was not tried: it takes labels, see metric."
    if not tried.is_clear:
        return f"  - Now, if you like: {adjusting}. Tried and undone, it gives {tried}."
    if tried.gain > 0:
        return f"  - Now: {adjusting}. Tried and undone, it helps: {tried}."
    return f"  - Do not adjust: tried and undone, it gives {tried}."


def _remarks(table: pd.DataFrame) -> list[str]:
    remarks = []
    if left_out := table.attrs.get("left_out", 0):
        samples = f"{left_out} single sample{'s' * (left_out > 1)}"
        remarks.append(
            f"  Left out: {samples} of another shape than the batch beside, which could not take it."
        )
    if table.attrs.get("are_smaller"):
        batch = table.attrs["samples"] / max(table.attrs["batches"], 1)
        remarks.append(
            f"  These batches, of {batch:.3g} samples, are smaller than those of training: train mode differs "
            "from what is stored, and eval mode does not. No layer is to blame; give the audit batches of "
            "training's size."
        )
    for _, row in table.iterrows():
        name = row["layer_name"]
        if row["calls"] == 0 and math.isnan(row["test_var"]):
            remarks.append(f"  {name}: not measured, as no batch reaches it.")
        elif math.isnan(row["moving_var"]):
            remarks.append(
                f"  {name} has track_running_stats=False: it stores nothing, so eval uses each batch."
            )
        elif row["calls"] == 0:
            remarks.append(f"  {name} is used in eval mode only.")
        elif math.isnan(row["test_var"]):
            remarks.append(f"  {name}: not measured, as it is used in train mode only.")
        elif math.isnan(row["shift_ratio_low"]):
            is_constant = row["test_var"] == 0
            why = "what it gets in eval mode does not vary" if is_constant else "there are too few samples"
            remarks.append(f"  {name}: not measured, as {why}.")
        elif row["calls"] > 1:
            remarks.append(f"  {name} is shared: {row['calls']} calls a forward, pooled.")
        if row["faint_channels"] and row["calls"]:
            remarks.append(f"  {name}: {_faint(row)}")
        if row["is_doubled"] and row["calls"]:
            remarks.append(f"  {name}: {_doubled(row)}")
        if row["own_noise"] and math.isnan(row["local_ratio"]):
            remarks.append(f"  {name}: its noise could not be followed to it, so its local share is unknown.")
    return remarks


def _faint(row: pd.Series) -> str:
    """A warning of channels that were constant."""
    faint = row["faint_channels"].split(", ")
    named = ", ".join(faint[:NAMED]) + (", ..." if len(faint) > NAMED else "")
    return (
        f"{len(faint)} of {row['channels']} channels ({named}) store a variance far below eps, as if constant: "
        f"eval mode multiplies what moves in them, x{row['eps'] ** -0.5:.3g} if it moves."
    )


def _doubled(row: pd.Series) -> str:
    """A warning of updates that are made twice."""
    momentum = row["momentum"]
    acts = "" if math.isnan(momentum) else f": momentum {momentum:g} acts like {1 - (1 - momentum) ** 2:.3g}"
    return (
        f"activation checkpointing runs it twice a training step, and each run updates what it stores{acts}."
    )


def _layers(count: int, kind: str = "") -> str:
    return f"{count} {kind}layer{'s' * (count != 1)}"


def _with(table: pd.DataFrame, cause: str) -> pd.DataFrame:
    return table[_has(table, cause)]


def _without(table: pd.DataFrame, cause: str) -> pd.DataFrame:
    return table[~_has(table, cause)]


def _has(table: pd.DataFrame, cause: str) -> pd.Series:
    return pd.Series([cause in alarm.split(",") for alarm in table["alarm"]], table.index, dtype=bool)


def _most(table: pd.DataFrame, *columns: str) -> pd.Series:
    """The row whose ratio or mean is furthest off."""
    sizes = [max(_off(row[column], column) for column in columns) for _, row in table.iterrows()]
    return table.iloc[sizes.index(max(sizes))]


def _size(row: pd.Series) -> float:
    """How far off a layer is: its shift, or its evaluation data."""
    return max(_off(row[column], column) for column in ("shift_ratio", "mean_shift", *EVIDENCE["data"]))


def _off(value: float, column: str) -> float:
    if column.startswith("mean") or column.endswith("mean"):
        return value if math.isfinite(value) else 0.0
    return abs(math.log(value)) if value > 0 and math.isfinite(value) else 0.0
