"""The one run of W&B that shows a study as a whole: means over seeds, error by strength, the report's figures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.theory.noises import FAMILIES
from experiments.checks import regular_file
from experiments.loggers.run_record import Lines, Row, RunRecord, study_run_id

if TYPE_CHECKING:
    import pandas as pd

# Of the means: the section of the run in which a column is drawn, and its title.
DRAWN = {
    "test_error": ("error", "Test error in percent"),
    "shift_ratio": ("shift", "Shift ratio, mean over layers"),
}


def study_record(
    folder: Path, counts: Mapping[str, int], networks: Sequence[str], means: "pd.DataFrame"
) -> RunRecord:
    """Return what the run of job type `report` of the study in `folder` holds.

    `counts` are its members by status, `networks` the names of its networks, `means` the table of
    `analysis.summary` by width. Its figures and its artifact `report` are what `python -m analysis.report` left in
    the study's folder `report`; its artifact `tables` is the study's.
    """
    study = folder.resolve().name
    environment = folder / "environment.json"
    artifacts = {
        "tables": sorted(folder.glob("*.csv")),
        "report": sorted(path for path in folder.glob("report/**/*") if path.is_file()),
    }
    history: list[Row] = []
    axes: dict[str, str] = {}
    pictures: dict[str, Lines] = {}
    for noise, family in FAMILIES.items():
        axis = f"x/{family.strength_name}"
        for column, (section, title) in DRAWN.items():
            lines = {f"{section}/{name} {noise}": line for name, line in _lines(means, noise, column).items()}
            if lines:
                axes |= dict.fromkeys(lines, axis)
                pictures[f"views/{section} by {noise} {family.strength_name}"] = Lines(
                    f"{title}, by {noise} {family.strength_name}", axis, lines
                )
                history += _rows(lines, axis)
    return RunRecord(
        run_id=study_run_id("report", folder),
        name=f"{study}: report",
        group=study,
        job_type="report",
        tags=["report"],
        config={
            "study": study,
            "networks": list(networks),
            "environment": json.loads(regular_file(environment).read_text(encoding="utf-8"))
            if environment.exists()
            else None,
        },
        history=history,
        axes=axes,
        summary={f"members_{status}": int(count) for status, count in counts.items()},
        tables={"views/means": [_filled(row) for row in means.to_dict("records")]},
        pictures=pictures,
        images={f"figures/{path.stem}": path for path in sorted(folder.glob("report/*.png"))},
        artifacts={kind: files for kind, files in artifacts.items() if files},
    )


def _lines(means: "pd.DataFrame", noise: str, column: str) -> dict[str, list[tuple[float, float]]]:
    """Return (strength, mean) of a family for each network and placement; the baseline is strength 0 of all."""
    network = list(means.columns[: list(means.columns).index("placement")])
    lines: dict[str, list[tuple[float, float]]] = {}
    for values, rows in means.groupby(network, dropna=False, sort=False):
        words = [
            f"{key} {value}" if key in ("width", "depth") else f"{value}"
            for key, value in zip(network, values, strict=True)
        ]
        known = rows[rows[column].notna()]
        baseline = known[known["noise"] == "none"]
        for placement, placed in known[known["noise"] == noise].groupby("placement", sort=False):
            xs, ys = (list(baseline[name]) + list(placed[name]) for name in ("strength", column))
            lines[" ".join([f"{placement}", *words])] = list(zip(map(float, xs), map(float, ys), strict=True))
    return lines


def _rows(lines: dict[str, list[tuple[float, float]]], axis: str) -> list[Row]:
    """Return a row for each place on the axis, with the value of every line that has one there."""
    rows: dict[float, Row] = {}
    for name, points in lines.items():
        for x, y in points:
            rows.setdefault(x, {axis: x})[name] = y
    return [rows[x] for x in sorted(rows)]


def _filled(row: dict) -> Row:
    """Return a row of plain Python values without those that are nan."""
    plain = {key: getattr(value, "item", lambda value=value: value)() for key, value in row.items()}
    return {key: value for key, value in plain.items() if value == value}
