"""What a table of the audit means, in plain words."""

import math

import pandas as pd

from analysis.audit.table import FALSE_ALARM, TOLERANCE

SHOWN = 5  # layers that are explained one by one


def diagnosis(table: pd.DataFrame) -> str:
    """Say what is wrong with the network, worst layer first, and what to do.

    Args:
        table: from `audit`.

    Returns:
        A few lines: the verdict; the layers with an alarm; a line for each of the three causes, also where one is
        innocent; advice.
    """
    alarmed = table[table["alarm"] != ""]
    sizes = sorted(((_size(row), index) for index, row in alarmed.iterrows()), reverse=True)
    worst = alarmed.loc[[index for _, index in sizes]]
    lines = [_verdict(table, worst), *(_layer(row) for _, row in worst.head(SHOWN).iterrows())]
    if len(worst) > SHOWN:
        lines.append(f"  ... and {len(worst) - SHOWN} more layers, see the table.")
    lines += ["", "Causes", _noise(table), _lag(table), _data(table)]
    advice = _advice(table)
    lines += ["", "What to do", *advice] if advice else []
    lines += [*_remarks(table)]
    return "\n".join(lines)


def _verdict(table: pd.DataFrame, worst: pd.DataFrame) -> str:
    level = (
        f"(alarms need more than {TOLERANCE:.0%}; at most {FALSE_ALARM:.0%} of sound networks raise any; "
        f"{table.attrs.get('samples', 0)} samples)"
    )
    if worst.empty:
        return f"No shift: in all {len(table)} BN layers, eval mode agrees with what is stored {level}."
    return f"{len(worst)} of {len(table)} BN layers are off {level}. Worst first:"


def _layer(row: pd.Series) -> str:
    low, high = row["shift_ratio_low"], row["shift_ratio_high"]
    parts = []
    if "noise" in row["alarm"]:
        if row["own_noise"] and math.isfinite(row["local_ratio"]):
            parts.append(f"its own noise alone, {row['own_noise']}, makes it x{row['local_ratio']:.3g}")
        else:
            feeds = row["own_noise"] or row["upstream_noise"]
            parts.append(f"all noise off makes it x{row['noise_ratio']:.3g} ({feeds})")
    if "lag" in row["alarm"]:
        parts.append(f"train mode has x{row['lag_ratio']:.3g} of the stored variance")
    if "upstream" in row["alarm"]:
        parts.append(f"the statistics of earlier layers make it x{row['upstream_ratio']:.3g}")
    if "data" in row["alarm"]:
        parts.append(f"evaluation data have x{row['data_ratio']:.3g} of the variance of the training data")
    return (
        f"  {row['layer_name']}: eval variance is {row['shift_ratio']:.3g} [{low:.3g}, {high:.3g}] "
        "of the stored one; " + "; ".join(parts) + "."
    )


def _noise(table: pd.DataFrame) -> str:
    hit = _with(table, "noise")
    if not hit.empty:
        own = hit[hit["own_noise"] != ""]
        row = _most(own, "local_ratio") if len(own) else _most(hit, "noise_ratio")
        size = row["local_ratio"] if len(own) else row["noise_ratio"]
        exact = row["local_ratio_exact"]
        law = f" (the exact law says {exact:.3g})" if math.isfinite(exact) else ""
        return (
            f"  Noise before BN: yes, {len(hit)} layers; most at {row['layer_name']}, x{size:.3g}{law} "
            f"from {row['own_noise'] or row['upstream_noise']}."
        )
    if (table["own_noise"] + table["upstream_noise"] == "").all():
        where = (
            "the network has none"
            if not table.attrs.get("has_noise", True)
            else "none comes before a BN layer"
        )
        return f"  Noise before BN: no, {where}."
    if table["is_adjusted"].any():
        return "  Noise before BN: there is some, but what is stored is without it, as after an adjustment."
    return "  Noise before BN: there is some, but it moves no layer's variance beyond doubt."


def _lag(table: pd.DataFrame) -> str:
    hit = _with(table, "lag")
    if hit.empty:
        return "  Stored statistics that lag: no, they agree with these batches."
    row = _most(hit, "lag_ratio")
    updates = int(row["updates"])
    few = f" after only {updates} updates" if updates < 50 else ""
    doubt = "" if table.attrs.get("has_eval_batches") else " (or these batches are not those of training)"
    return (
        f"  Stored statistics that lag: yes, {len(hit)} layers; most at {row['layer_name']}, where train mode has "
        f"x{row['lag_ratio']:.3g} of the stored variance{few}{doubt}."
    )


def _data(table: pd.DataFrame) -> str:
    if not table.attrs.get("has_eval_batches"):
        return "  Data that differ: not asked; give the evaluation batches as well to know."
    hit = _with(table, "data")
    if hit.empty:
        return "  Data that differ: no, evaluation data have the variances of the training data."
    row = hit.iloc[0]
    return (
        f"  Data that differ: yes, {len(hit)} layers, the first {row['layer_name']}: evaluation data have "
        f"x{row['data_ratio']:.3g} [{row['data_ratio_low']:.3g}, {row['data_ratio_high']:.3g}] of the variance."
    )


def _advice(table: pd.DataFrame) -> list[str]:
    lines = []
    noise = _with(table, "noise")
    if not noise.empty:
        lines.append("  - Now: adjust(model, training_batches) re-estimates the statistics without noise.")
        names = list(
            dict.fromkeys(name for names in noise["own_noise"] if names for name in names.split(", "))
        )
        moved = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        lines.append(
            f"  - When you train again: move {moved or 'the noise'} behind the last BN layer, or replace "
            "it by weaker noise with replace_noise(model, 'uout', 0.0033) (the paper's Uout, beta 0.1)."
        )
    elif not _with(table, "lag").empty or not _with(table, "upstream").empty:
        lines.append("  - adjust(model, training_batches) re-estimates the statistics.")
    if not _with(table, "lag").empty:
        lines.append(
            "  - For statistics that keep up: more updates, larger batches, or a momentum of 0.1 or less."
        )
    if not _with(table, "data").empty:
        lines.append(
            "  - Compare the preprocessing of training and evaluation (scaling, cropping, augmentation) first; "
            "if the data must differ, adjust(model, evaluation_batches) fits BN to them."
        )
    return lines


def _remarks(table: pd.DataFrame) -> list[str]:
    remarks = []
    for _, row in table.iterrows():
        name = row["layer_name"]
        if math.isnan(row["moving_var"]):
            remarks.append(
                f"  {name} has track_running_stats=False: it stores nothing, so eval uses each batch."
            )
        elif row["calls"] == 0:
            remarks.append(f"  {name} was not reached by any batch.")
        elif math.isnan(row["test_var"]):
            remarks.append(f"  {name} is used in train mode only.")
        elif row["calls"] > 1:
            remarks.append(f"  {name} is shared: {row['calls']} calls a forward, pooled.")
        if row["own_noise"] and math.isnan(row["local_ratio"]):
            remarks.append(f"  {name}: its noise could not be followed to it, so its local share is unknown.")
    return ["", "Remarks", *remarks] if remarks else []


def _with(table: pd.DataFrame, cause: str) -> pd.DataFrame:
    return table[[cause in alarm.split(",") for alarm in table["alarm"]]]


def _most(table: pd.DataFrame, column: str) -> pd.Series:
    """The row whose ratio is furthest from 1."""
    return table.iloc[max(range(len(table)), key=lambda index: _off(table[column].iloc[index]))]


def _size(row: pd.Series) -> float:
    """How far off a layer is: its shift, or its evaluation data."""
    return max(_off(row["shift_ratio"]), _off(row["data_ratio"]))


def _off(value: float) -> float:
    return abs(math.log(value)) if value > 0 and math.isfinite(value) else 0.0
