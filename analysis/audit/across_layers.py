"""What only the layers together show: whose batches are too small, those of the audit or those of training."""

import math
from typing import Any

SMALL = 32  # values per channel up to which train mode's own scatter moves the layers behind

HARMLESS = {
    "upstream",
    "data",
}  # alarms of earlier layers that do not explain why eval mode differs further up


def settle(rows: list[dict[str, Any]]) -> bool:
    """Change the alarms of a table's rows, in the order of the forward pass, by what the other rows say.

    Batches of the audit smaller than those of training make train mode differ from what is stored, and eval
    mode from train mode by as much the other way: then neither is an alarm, and True is returned. Where eval mode
    differs although no earlier layer stores anything wrong, the earlier layer with the fewest values in a batch
    is at fault.
    """
    alarms = [row["alarm"].split(",") if row["alarm"] else [] for row in rows]
    cancelling = [_cancels(row, names) for row, names in zip(rows, alarms, strict=True)]
    are_smaller = any(cancelling)
    for index in range(len(rows)):
        if are_smaller:
            dropped = {"few", *(("lag", "upstream") if cancelling[index] else ())}
            alarms[index] = [name for name in alarms[index] if name not in dropped]
        elif "upstream" in alarms[index] and not any(set(names) - HARMLESS for names in alarms[:index]):
            known = [at for at in range(index) if rows[at]["batch_values"] <= SMALL]
            fewest = min(known, key=lambda at: rows[at]["batch_values"], default=None)
            if fewest is not None:
                alarms[fewest].append("few")
    for row, names in zip(rows, alarms, strict=True):
        row["alarm"] = ",".join(names)
    return are_smaller


def _cancels(row: dict[str, Any], alarms: list[str]) -> bool:
    """Whether what differs from stored to train mode differs by the opposite from there to eval mode."""
    if not {"lag", "upstream"} & set(alarms):
        return False
    lag, upstream = (_log(row[f"{cause}_ratio"]) for cause in ("lag", "upstream"))
    mean = max(row["lag_mean"], row["upstream_mean"])
    cancels = abs(lag + upstream) < max(abs(lag), abs(upstream)) / 2
    return cancels and 2 * row["mean_shift"] < max(mean, 0.1)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan
