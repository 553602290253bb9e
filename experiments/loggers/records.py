"""What a run of W&B holds, taken from the tables: a run for every member."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from experiments.config import DATA_KEYS_WITHOUT_EFFECT, RESULT_KEYS, without
from experiments.tables import IDENTITY, read_table

Cell = str | int | float
Row = dict[str, Cell]

# What tells the rows of one member from those of others, in every table of a job.
MEMBER_KEY = (*IDENTITY, "lr", "weight_decay", "batch_size")
SET_BEFORE_TRAINING = (*MEMBER_KEY, "train_samples")
TEXT_COLUMNS = {"data", "model", "norm", "placement", "noise", "status", "layer_name", "job", "reason"}
# Columns of layers.csv that are drawn over the layers; the run's table `layers` has them all.
DRAWN_OVER_LAYERS = (
    *("shift_ratio", "shift_magnitude", "local_ratio", "local_ratio_exact", "ratio_paper"),
    *("shift_ratio_adjusted", "moving_var", "train_var", "test_var"),
)
SUMMED_UP_BY_LAYER = (
    "shift_ratio",
    "shift_magnitude",
    "local_ratio",
    "local_ratio_exact",
    "shift_ratio_adjusted",
)
# The lines of the run's own picture.
RATIO_LINES = {
    "shift_ratio": "shift ratio, measured",
    "local_ratio": "this layer's own noise, measured",
    "local_ratio_exact": "this layer's own noise, exact law",
    "shift_ratio_adjusted": "shift ratio after BN adjustment",
}


@dataclass(frozen=True)
class Lines:
    """A picture of several lines, (x, y) pairs by the line's name."""

    title: str
    x_name: str
    lines: dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class RunRecord:
    """Everything that one run of W&B holds.

    Attributes:
        run_id: W&B's identifier, the same whenever the same member of the same study is exported.
        name, group, job_type, tags, notes: as W&B lists the run.
        config: what was set before training.
        history: rows to log in order; each drawn against the axis that it holds.
        axes: for a key of `history`, or a pattern such as layer/*, the key that is its horizontal axis.
        summary: values beside the last ones of `history`.
        tables, pictures, images: media, by key; an image is a PNG file.
        exit_code: 0, or 1 for a member that failed.
    """

    run_id: str
    name: str
    group: str
    job_type: str
    tags: list[str]
    config: dict[str, Any]
    history: list[Row]
    axes: dict[str, str]
    summary: dict[str, Any]
    tables: dict[str, list[Row]] = field(default_factory=dict)
    pictures: dict[str, Lines] = field(default_factory=dict)
    images: dict[str, Path] = field(default_factory=dict)
    notes: str = ""
    exit_code: int = 0

    def digest(self) -> str:
        """Checksum of all of it, images included: equal records make equal runs."""
        content = asdict(self) | {
            "images": {
                key: hashlib.sha256(path.read_bytes()).hexdigest() for key, path in self.images.items()
            }
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def member_records(job_folder: Path) -> list[RunRecord]:
    """Return a record for every member of the job in `job_folder`, in the order of its table.

    Raises OSError, or ValueError where a file is not what this version writes.
    """
    study = job_folder.parent.parent.resolve().name
    configuration = yaml.safe_load((job_folder / "config.yaml").read_text(encoding="utf-8"))
    environment = json.loads((job_folder / "environment.json").read_text(encoding="utf-8"))
    members = read_table(job_folder / "members.csv")
    layers = _by_member(job_folder / "layers.csv")
    epochs = _by_member(job_folder / "epochs.csv")
    flips = _by_member(job_folder / "flips.csv")
    setting = _setting(configuration)
    several_recipes = len({(row["lr"], row["weight_decay"]) for row in members}) > 1
    return [
        _member_record(
            _typed(row),
            layers.get(_key(row), []),
            epochs.get(_key(row), []),
            flips.get(_key(row), []),
            study=study,
            run_hash=hashlib.sha256("\n".join([study, setting, *_key(row)]).encode()).hexdigest()[:10],
            name_recipe=several_recipes,
            name_samples=configuration["data"].get("train_size") is not None,
            more_config={"configuration": configuration, "environment": environment},
        )
        for row in members
    ]


def _member_record(
    member: Row,
    layers: Sequence[Row],
    epochs: Sequence[Row],
    flips: Sequence[Row],
    *,
    study: str,
    run_hash: str,
    name_recipe: bool,
    name_samples: bool,
    more_config: Mapping[str, Any],
) -> RunRecord:
    is_baseline = member["noise"] == "none"
    kind = "no noise" if is_baseline else f"{member['placement']} {member['noise']} {member['strength']:g}"
    size = [f"{key} {member[key]}" for key in ("width", "depth") if key in member]
    recipe = [f"lr {member['lr']:g} weight decay {member['weight_decay']:g}"] if name_recipe else []
    samples = [f"{member['train_samples']} samples"] if name_samples else []
    name = " ".join([str(member["model"]), *size, kind, *recipe, *samples, f"seed {member['seed']}"])
    # Lists of runs cut identifiers short: what tells members apart comes first, and the hash last.
    readable = re.sub(r"[^\w.-]+", "-", " ".join([kind, *size[:1], f"seed {member['seed']}"]), flags=re.ASCII)

    identity = {key: member[key] for key in SET_BEFORE_TRAINING if key in member}
    results = {key: value for key, value in member.items() if key not in (*SET_BEFORE_TRAINING, "job")}
    # Drawn over the strength, so that the runs of a study together show error against rate.
    drawn = {
        key: value for key, value in results.items() if key.startswith(("train_", "test_", "validation_"))
    }
    columns = (
        [key for key in epochs[0] if key not in (*SET_BEFORE_TRAINING, "epoch", "job")] if epochs else []
    )
    history = [
        {"epoch": row["epoch"], **{f"training/{key}": row[key] for key in columns if key in row}}
        for row in epochs
    ]
    history += [
        {
            "layer_index": row["layer_index"],
            **{f"layer/{key}": row[key] for key in DRAWN_OVER_LAYERS if key in row},
        }
        for row in layers
    ]
    if drawn:
        history.append({"strength": member["strength"], **drawn})
    lines = {
        title: [(float(row["layer_index"]), float(row[key])) for row in layers if key in row]
        for key, title in RATIO_LINES.items()
    }
    return RunRecord(
        run_id=f"{readable}-{run_hash}",
        name=name,
        group=study,
        job_type=str(member["placement"]),
        tags=_tags(member),
        config={**identity, "study": study, "job": member["job"], **more_config},
        history=history,
        axes={"training/*": "epoch", "layer/*": "layer_index", **dict.fromkeys(drawn, "strength")},
        summary={**results, **_summary(member, layers)},
        tables={
            f"tables/{name}": [_without_member(row) for row in rows]
            for name, rows in (("layers", layers), ("flips", flips))
            if rows
        },
        pictures={"tables/shift_by_layer": Lines("Variance ratios by BN layer", "layer", _drawable(lines))}
        if any(lines.values())
        else {},
        notes=str(member.get("reason", "")),
        exit_code=1 if member["status"] == "failed" else 0,
    )


def _summary(member: Row, layers: Iterable[Row]) -> dict[str, float]:
    """Return the numbers that tables and charts of W&B can pick: ratios layer by layer, and two differences."""
    summary: dict[str, float] = {}
    for key in SUMMED_UP_BY_LAYER:
        by_layer = {row["layer_index"]: float(row[key]) for row in layers if key in row}
        summary |= {f"{key}/{index}": value for index, value in by_layer.items()}
        if by_layer:
            summary[f"{key}/mean"] = sum(by_layer.values()) / len(by_layer)
    for name, minuend, subtrahend in (
        ("mode_gap", "train_error_eval_mode", "train_error_train_mode"),
        ("adjustment_gain", "test_error", "test_error_adjusted"),
    ):
        if minuend in member and subtrahend in member:
            summary[name] = float(member[minuend]) - float(member[subtrahend])
    return summary


def _tags(member: Row) -> list[str]:
    """Return a run's tags, each once; W&B takes up to 64 characters."""
    words = [member["data"], member["model"], f"{member['norm']} norm"]
    words += ["baseline"] if member["noise"] == "none" else [member["placement"], member["noise"]]
    words += [] if member["status"] == "ok" else [member["status"]]
    return list(dict.fromkeys(str(word)[:64] for word in words))


def _setting(configuration: Mapping[str, Any]) -> str:
    """Return all of a job's configuration that its results depend on besides the members, as text."""
    sections = {key: configuration[key] for key in RESULT_KEYS if key != "members"}
    sections["data"] = without(sections["data"], DATA_KEYS_WITHOUT_EFFECT)
    return json.dumps(sections, sort_keys=True)


def _drawable(lines: Mapping[str, list[tuple[float, float]]]) -> dict[str, list[tuple[float, float]]]:
    return {name: points for name, points in lines.items() if points}


def _by_member(path: Path) -> dict[tuple[str, ...], list[Row]]:
    """Return the rows of a table by member; none of a table that the job did not need."""
    rows: dict[tuple[str, ...], list[Row]] = {}
    for row in read_table(path) if path.exists() else []:
        rows.setdefault(_key(row), []).append(_typed(row))
    return rows


def _key(row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in MEMBER_KEY)


def _without_member(row: Row) -> Row:
    return {key: value for key, value in row.items() if key not in (*SET_BEFORE_TRAINING, "job")}


def _typed(row: Mapping[str, str]) -> Row:
    """Return the cells that are not empty, numbers as such."""
    return {key: text if key in TEXT_COLUMNS else _number(text) for key, text in row.items() if text != ""}


def _number(text: str) -> Cell:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
