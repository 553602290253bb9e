"""What no statistics mend, in words: of a layer, of the network, and what does mend it."""

import math

import pandas as pd


def of_layer(row: pd.Series) -> list[str]:
    """A part of the layer's line for each trouble that it has."""
    alarms, parts = row["alarm"].split(","), []
    if "batches" in alarms:
        parts.append(
            f"the means of its batches differ {row['batch_spread']:.3g} times as much as those of random batches"
        )
    if "steps" in alarms:
        parts.append(
            f"its {row['calls']} calls a forward get different inputs (variances x{row['step_ratio']:.3g}, means "
            f"{row['step_mean']:.2g} standard deviations from their average)"
        )
    if "few" in alarms:
        parts.append(f"train mode normalises by {_values(row)} in a batch of these")
    return parts


def _values(row: pd.Series) -> str:
    values, independent = row["batch_values"], row["independent_values"]
    alike = math.isfinite(independent) and independent < values / 2
    return f"{values:.3g} values per channel" + (f" (no more than {independent:.2g} independent)" * alike)


def of_network(table: pd.DataFrame) -> list[str]:
    """The line among the causes; none where there is no such trouble."""
    found = []
    if (row := _first(table, "batches")) is not None:
        found.append(
            f"batches differ {row['batch_spread']:.3g} times as much as random ones (F at {_name(row)})"
        )
    if (row := _first(table, "steps")) is not None:
        found.append(f"the calls of {_name(row)} get different inputs")
    if (row := _first(table, "few")) is not None:
        found.append(f"{_values(row)} in a batch at {_name(row)}")
    return [f"  What no statistics mend: {'; '.join(found)}."] if found else []


def advice(table: pd.DataFrame) -> list[str]:
    """What mends each trouble."""
    lines = []
    if _first(table, "batches") is not None:
        lines.append(
            "Shuffle and train again: eval mode has one set of statistics for all, train mode has those of a "
            "batch, and these batches are no random ones (one class, one source or one subject each?). Where they "
            "are of several domains by design, give each domain its own BN layers. If only the audit's batches "
            "are sorted, give it shuffled ones. adjust does not help."
        )
    for name, calls in _named(table, "steps"):
        lines.append(
            f"Give each of the {calls} calls of {name} (steps, branches, domains) a BN layer of its own."
        )
    few = ", ".join(name for name, _ in _named(table, "few"))
    if few:
        lines.append(
            f"Train with larger batches, or replace BN by GroupNorm, at {few}: statistics of so few values are "
            "mostly chance, and eval mode has none of it; adjust does not help. Where training's batches are "
            "larger than these, no layer is to blame: give the audit batches of their size."
        )
    return lines


def _first(table: pd.DataFrame, trouble: str) -> pd.Series | None:
    return next((row for _, row in table.iterrows() if trouble in row["alarm"].split(",")), None)


def _named(table: pd.DataFrame, trouble: str) -> list[tuple[str, int]]:
    rows = (row for _, row in table.iterrows() if trouble in row["alarm"].split(","))
    return [(_name(row), int(row["calls"])) for row in rows]


def _name(row: pd.Series) -> str:
    return row["layer_name"] or "the model"
