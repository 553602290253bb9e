"""The runs of W&B that show a job: one for every member, taken from its tables."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.schema import IDENTITY, MEMBER_KEY, RECIPE, typed_row
from analysis.theory.noises import NO_NOISE, family
from experiments.checks import regular_file
from experiments.loggers.run_record import EPOCH, LAYER, STRENGTH, Lines, Row, RunRecord, plain
from experiments.members import Member, member_of
from experiments.settings.config import DATA_KEYS_WITHOUT_EFFECT, RESULT_KEYS, without
from experiments.study.part import read_config
from experiments.study.tables import read_table

SET_BEFORE_TRAINING = (*IDENTITY, *RECIPE)
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


def member_records(job_folder: Path, shown: Collection[Member] | None = None) -> list[RunRecord]:
    """Return a record for every member of a part, or those of `shown`, in the order of its table.

    Raises OSError, or ValueError where a file is not what this version writes.
    """
    study = job_folder.parent.parent.resolve().name
    configuration = read_config(job_folder)
    environment = json.loads(regular_file(job_folder / "environment.json").read_text(encoding="utf-8"))
    members = read_table(job_folder / "members.csv")
    layers = _by_member(job_folder / "layers.csv")
    epochs = _by_member(job_folder / "epochs.csv")
    flips = _by_member(job_folder / "flips.csv")
    setting = _setting(configuration)
    several_recipes = len({(row["lr"], row["weight_decay"]) for row in members}) > 1
    return [
        _member_record(
            typed_row(row),
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
        if shown is None or member_of(typed_row(row)) in shown
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
    results = _without_member(member)
    # Drawn over the strength, so that the runs of a study together show error against rate.
    errors = {
        key: value for key, value in results.items() if key.startswith(("train_", "test_", "validation_"))
    }
    identity = {key: member[key] for key in SET_BEFORE_TRAINING if key in member}
    return RunRecord(
        run_id=f"{_readable_identifier(member)}-{run_hash}",
        name=_name(member, name_recipe, name_samples),
        group=study,
        job_type=str(member["placement"]),
        tags=_tags(member),
        config={**identity, "study": study, "job": member["job"], **more_config},
        history=_history(layers, epochs) + ([{STRENGTH: member["strength"], **errors}] if errors else []),
        axes={"training/*": EPOCH, "layer/*": LAYER, **dict.fromkeys(errors, STRENGTH)},
        summary={**results, **_summary(member, layers)},
        tables={
            f"views/{name}": [_without_member(row) for row in rows]
            for name, rows in (("layers", layers), ("flips", flips))
            if rows
        },
        pictures=_pictures(layers),
        notes=str(member.get("reason", "")),
        exit_code=1 if member["status"] == "failed" else 0,
    )


def _readable_identifier(member: Row) -> str:
    """Return the first part of a run's identifier; lists cut it short, so what tells members apart comes first."""
    words = " ".join([_noise(member), *_size(member)[:1], f"seed {member['seed']}"])
    return plain(words)


def _name(member: Row, name_recipe: bool, name_samples: bool) -> str:
    """Return a run's name; what is the same in all of its job is left out."""
    recipe = [f"lr {member['lr']:g} weight decay {member['weight_decay']:g}"] if name_recipe else []
    samples = [f"{member['train_samples']} samples"] if name_samples else []
    words = [
        str(member["model"]),
        *_size(member),
        _noise(member),
        *recipe,
        *samples,
        f"seed {member['seed']}",
    ]
    return " ".join(words)


def _noise(member: Row) -> str:
    noise = family(str(member["noise"]))
    label = noise.label(float(member["strength"]))
    return label if noise is NO_NOISE else f"{member['placement']} {label}"


def _size(member: Row) -> list[str]:
    return [f"{key} {member[key]}" for key in ("width", "depth") if key in member]


def _history(layers: Iterable[Row], epochs: Iterable[Row]) -> list[Row]:
    """Return the rows to log: the epochs of training, then the BN layers from shallow to deep."""
    training = [
        {f"training/{key}": value for key, value in _without_member(row).items() if key != "epoch"}
        | {EPOCH: row["epoch"]}
        for row in epochs
    ]
    over_layers = [
        {f"layer/{key}": row[key] for key in DRAWN_OVER_LAYERS if key in row} | {LAYER: row["layer_index"]}
        for row in layers
    ]
    return training + over_layers


def _pictures(layers: Sequence[Row]) -> dict[str, Lines]:
    """Return the run's own picture, the variance ratios over the layers; none where no layer has any."""
    lines = {
        title: [(float(row["layer_index"]), float(row[key])) for row in layers if key in row]
        for key, title in RATIO_LINES.items()
    }
    drawable = {title: points for title, points in lines.items() if points}
    picture = Lines("Variance ratios by BN layer", "layer", drawable)
    return {"views/shift_by_layer": picture} if drawable else {}


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


def _by_member(path: Path) -> dict[tuple[str, ...], list[Row]]:
    """Return the rows of a table by member; none of a table that the job did not need."""
    rows: dict[tuple[str, ...], list[Row]] = {}
    for row in read_table(path) if path.exists() else []:
        rows.setdefault(_key(row), []).append(typed_row(row))
    return rows


def _key(row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in MEMBER_KEY)


def _without_member(row: Row) -> Row:
    return {key: value for key, value in row.items() if key not in (*SET_BEFORE_TRAINING, "job")}
