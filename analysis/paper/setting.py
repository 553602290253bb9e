"""Which of the paper's networks a study trained, and in what its setting differs from the paper's."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from analysis.tables import Study

DATASETS = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "imagenet": "ImageNet"}
_CIFAR = {
    "data.train_size": 50_000,
    "data.image_size": 32,
    "recipe.lr": 0.1,
    "recipe.momentum": 0.9,
    "recipe.nesterov": False,
    "recipe.augment": "crop_flip",
    "recipe.schedule": "step",
    "model.norm": "batch",
}
# What the paper states of each network and its training: see README.md beside this file.
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {  # our model.name: the paper's name, its setting
    "preresnet": (
        "PreResNet-110",
        _CIFAR
        | {"bn_layers": 163, "model.width": 16, "model.depth": 18, "model.block": "bottleneck"}
        | {"recipe.epochs": 164, "recipe.batch_size": 128, "recipe.weight_decay": 1e-4},
    ),
    "resnext": (
        "ResNeXt-29-8x64",
        _CIFAR
        | {"bn_layers": 31, "model.width": 64, "model.depth": 3, "model.cardinality": 8}
        | {"recipe.epochs": 300, "recipe.batch_size": 128, "recipe.weight_decay": 5e-4},
    ),
    "wide_resnet": (
        "WRN-28-10",
        _CIFAR
        | {"bn_layers": 25, "model.width": 160, "model.depth": 4}
        | {"recipe.epochs": 200, "recipe.batch_size": 128, "recipe.weight_decay": 5e-4},
    ),
    "densenet": (
        "DenseNet-BC-100-12",
        _CIFAR
        | {"bn_layers": 99, "model.width": 12, "model.depth": 16}
        | {"recipe.epochs": 300, "recipe.batch_size": 64, "recipe.weight_decay": 1e-4},
    ),
}
NETWORKS = {model: name for model, (name, _) in SETTINGS.items()}
WORDS = {
    "bn_layers": "BN layers",
    "model.width": "width",
    "model.depth": "depth",
    "model.block": "block",
    "model.cardinality": "cardinality",
    "model.norm": "normalisation",
    "data.train_size": "images",
    "data.image_size": "pixels a side",
    "recipe.epochs": "epochs",
    "recipe.batch_size": "batch",
    "recipe.lr": "learning rate",
    "recipe.weight_decay": "weight decay",
    "recipe.momentum": "momentum",
    "recipe.nesterov": "Nesterov momentum",
    "recipe.augment": "augmentation",
    "recipe.schedule": "learning rate schedule",
}


@dataclass(frozen=True)
class PaperStudy:
    """The part of a study that the paper has too: its networks on its data sets, in the paper's words.

    Attributes:
        members, layers, epochs, flips: the study's tables with two more columns, `dataset` and `network`.
        setting: for each (dataset, network) what differs: key -> (here, in the paper).
    """

    members: pd.DataFrame
    layers: pd.DataFrame
    epochs: pd.DataFrame
    flips: pd.DataFrame
    setting: dict[tuple[str, str], dict[str, tuple[Any, Any]]]

    @property
    def scale(self) -> str:
        """What most differs from the paper, in one line that fits on a figure."""
        parts = []
        for key in ("bn_layers", "data.train_size", "data.image_size", "recipe.epochs"):
            pairs = [differences[key] for differences in self.setting.values() if key in differences]
            if pairs:
                here, there = (_span([pair[side] for pair in pairs]) for side in (0, 1))
                parts.append(f"{here} {WORDS[key]} ({there})")
        return f"ours scaled down (the paper's): {', '.join(parts)}" if parts else "ours at the paper's scale"

    def part(self, name: tuple[str, str]) -> "PaperStudy":
        """The study of one (dataset, network) alone."""
        members, layers, epochs, flips = (
            table[(table["dataset"] == name[0]) & (table["network"] == name[1])]
            for table in (self.members, self.layers, self.epochs, self.flips)
        )
        return PaperStudy(members, layers, epochs, flips, {name: self.setting[name]})


def paper_study(study: Study, folder: Path) -> PaperStudy:
    """Return the part of a study that the paper has too; its tables are empty where there is none.

    What a job's settings were is read from `folder`/jobs/JOB/config.yaml; where that is gone, from the tables.
    """
    tables = [
        _in_the_papers_words(table) for table in (study.members, study.layers, study.epochs, study.flips)
    ]
    members, layers = tables[0], tables[1]
    setting = {}
    for name in names_in(members):
        rows = members[(members["dataset"] == name[0]) & (members["network"] == name[1])]
        first = rows.iloc[0]
        here = _settings_of(first, folder) | {"bn_layers": _bn_layers(layers, name)}
        there = SETTINGS[first["model"]][1]
        setting[name] = {
            key: (here[key], value) for key, value in there.items() if key in here and here[key] != value
        }
    return PaperStudy(*tables, setting)  # type: ignore[arg-type]


def names_in(table: pd.DataFrame) -> list[tuple[str, str]]:
    """The (dataset, network) of a table, in the paper's order."""
    there = set(zip(table["dataset"], table["network"], strict=True))
    return [(data, net) for data in DATASETS.values() for net in NETWORKS.values() if (data, net) in there]


def _in_the_papers_words(table: pd.DataFrame) -> pd.DataFrame:
    known = table[table["data"].isin(list(DATASETS)) & table["model"].isin(list(NETWORKS))]
    return known.assign(dataset=known["data"].map(DATASETS), network=known["model"].map(NETWORKS))


def _bn_layers(layers: pd.DataFrame, name: tuple[str, str]) -> int:
    rows = layers[(layers["dataset"] == name[0]) & (layers["network"] == name[1])]
    return int(rows["layer_index"].max()) if len(rows) else 0


def _settings_of(member: pd.Series, folder: Path) -> dict[str, Any]:
    """The dotted settings of a member's job, as far as they are known."""
    here: dict[str, Any] = {f"model.{key}": member[key] for key in ("width", "depth", "norm")}
    path = folder / "jobs" / str(member.get("job", "")) / "config.yaml"
    if path.is_file():
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        here = {
            f"{section}.{key}": v
            for section in ("data", "model", "recipe")
            for key, v in config[section].items()
        }
        here.setdefault("recipe.augment", "none")
        if here.get("data.image_size") is None:
            here["data.image_size"] = 32
        if here.get("data.train_size") is None:  # all that the files hold: the steps tell how many
            images = float(member["steps"]) * here["recipe.batch_size"] / here["recipe.epochs"]
            here["data.train_size"] = (
                50_000 if 0 <= 50_000 - images < here["recipe.batch_size"] else int(images)
            )
    return here


def _span(values: list) -> str:
    """Several values as '7-15', equal ones as one."""
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"


def setting_rows(setting: Mapping[tuple[str, str], Mapping[str, tuple[Any, Any]]]) -> list[list[str]]:
    """The differences as the rows of a table: what, then 'here (paper)' for each network."""
    keys = [key for key in WORDS if any(key in differences for differences in setting.values())]
    return [[WORDS[key], *(_cell(differences.get(key)) for differences in setting.values())] for key in keys]


def _cell(pair: tuple[Any, Any] | None) -> str:
    return "as in the paper" if pair is None else " ".join([_text(pair[0]), f"({_text(pair[1])})"])


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
