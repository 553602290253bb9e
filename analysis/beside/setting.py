"""Which of the paper's networks a study trained, and in what its setting differs from the paper's."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..tables import Study, read_config

DATASETS = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "image_folder": "ImageNet"}
NETWORKS = {  # our model.name: the paper's name; those of ImageNet share a name, see `_network`
    "preresnet": "PreResNet-110",
    "resnext": "ResNeXt-29-8x64",
    "wide_resnet": "WRN-28-10",
    "densenet": "DenseNet-BC-100-12",
}
IMAGENET_NETWORKS = ("ResNet-200", "ResNeXt-101", "SENet")
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
_IMAGENET = {"data.train_size": 1_281_167, "data.image_size": 224, "model.width": 64, "model.norm": "batch"}
# The paper's statements on each network and its training, see analysis/paper/README.md.
SETTINGS: dict[str, dict[str, Any]] = {
    "PreResNet-110": _CIFAR
    | {"bn_layers": 163, "model.width": 16, "model.depth": 18, "model.block": "bottleneck"}
    | {"recipe.epochs": 164, "recipe.batch_size": 128, "recipe.weight_decay": 1e-4},
    "ResNeXt-29-8x64": _CIFAR
    | {"bn_layers": 31, "model.width": 64, "model.depth": 3, "model.cardinality": 8}
    | {"recipe.epochs": 300, "recipe.batch_size": 128, "recipe.weight_decay": 5e-4},
    "WRN-28-10": _CIFAR
    | {"bn_layers": 25, "model.width": 160, "model.depth": 4}
    | {"recipe.epochs": 200, "recipe.batch_size": 128, "recipe.weight_decay": 5e-4},
    "DenseNet-BC-100-12": _CIFAR
    | {"bn_layers": 99, "model.width": 12, "model.depth": 16}
    | {"recipe.epochs": 300, "recipe.batch_size": 64, "recipe.weight_decay": 1e-4},
    # Of these the paper gives no recipe; widths and groups are those of the networks' own papers.
    "ResNet-200": _IMAGENET | {"model.depth": 200},
    "ResNeXt-101": _IMAGENET | {"model.depth": 101, "model.cardinality": 64},
    "SENet": _IMAGENET | {"model.depth": 154, "model.cardinality": 64},
}
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
        """The largest differences from the paper, in one line that fits on a figure."""
        parts = []
        for key in ("bn_layers", "data.train_size", "data.image_size", "recipe.epochs"):
            pairs = [differences[key] for differences in self.setting.values() if key in differences]
            if pairs:
                here, there = (_span([pair[side] for pair in pairs]) for side in (0, 1))
                parts.append(f"{here} of {there} {WORDS[key].removesuffix(' a side')}")
        return f"ours scaled down: {', '.join(parts)}" if parts else "ours at the paper's scale"

    def part(self, name: tuple[str, str]) -> "PaperStudy":
        """The study of one (dataset, network) alone."""
        members, layers, epochs, flips = (
            table[(table["dataset"] == name[0]) & (table["network"] == name[1])]
            for table in (self.members, self.layers, self.epochs, self.flips)
        )
        return PaperStudy(members, layers, epochs, flips, {name: self.setting[name]})


def paper_study(study: Study, folder: Path) -> PaperStudy:
    """Return the part of a study that the paper has too; its tables are empty where there is none.

    What a job's settings were is read from the config.yaml of one of its parts, `folder`/jobs/JOB-PART; where
    these are gone, from the tables. An image folder counts as ImageNet, whatever is in it: how many images it held
    is among the settings.
    """
    jobs = study.members.drop_duplicates("job") if "job" in study.members else study.members[:0]
    files = _config_files(folder)
    configs = {name: _settings_of(files[name]) for name in jobs.get("job", []) if name in files}
    members = _in_the_papers_words(study.members, configs)
    if members.empty:  # other networks alone
        study = Study(study.name, members, study.layers[:0])
    layers, epochs, flips = (
        _in_the_papers_words(table, configs) for table in (study.layers, study.epochs, study.flips)
    )
    setting = {}
    for dataset, network in names_in(members):
        first = members[(members["dataset"] == dataset) & (members["network"] == network)].iloc[0]
        here = {f"model.{key}": first[key] for key in ("width", "depth", "norm")}
        here |= configs.get(first.get("job"), {})
        if "train_samples" in first:
            here["data.train_size"] = int(first["train_samples"])
        in_layers = layers[(layers["dataset"] == dataset) & (layers["network"] == network)]["layer_index"]
        here["bn_layers"] = int(in_layers.max()) if len(in_layers) else 0
        setting[dataset, network] = {
            key: (here[key], value)
            for key, value in SETTINGS[network].items()
            if here.get(key, value) != value
        }
    return PaperStudy(members, layers, epochs, flips, setting)


def names_in(table: pd.DataFrame) -> list[tuple[str, str]]:
    """The (dataset, network) of a table, in the paper's order."""
    there = set(zip(table["dataset"], table["network"], strict=True))
    return [(data, network) for data in DATASETS.values() for network in SETTINGS if (data, network) in there]


def _in_the_papers_words(table: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    of_paper = table[table["data"].isin(list(DATASETS))]
    names = [
        _network(model, configs.get(job, {}))
        for model, job in zip(of_paper["model"], of_paper.get("job", of_paper["model"]), strict=True)
    ]
    network = pd.Series(names, of_paper.index, dtype=object)
    return of_paper.assign(dataset=of_paper["data"].map(DATASETS), network=network)[network.notna()]


def _network(model: str, settings: Mapping[str, Any]) -> str | None:
    """The paper's name of a network, None for one that it does not have."""
    if model != "imagenet_net":
        return NETWORKS.get(model)
    plain, grouped, senet = IMAGENET_NETWORKS
    return (
        senet
        if settings.get("model.senet")
        else grouped
        if settings.get("model.cardinality", 1) > 1
        else plain
    )


def _config_files(folder: Path) -> dict[str, Path]:
    """The configuration of each job of a study: that of one of its parts, which agree in these settings."""
    files: dict[str, Path] = {}
    for file in sorted(folder.glob("jobs/*/config.yaml")):
        name = file.parent.name
        for job in (name, name.rpartition("-")[0]):  # of an earlier version the job itself was the part
            files.setdefault(job, file)
    return files


def _settings_of(path: Path) -> dict[str, Any]:
    """The dotted settings of a job's data, model and recipe, as far as they are known."""
    here = {
        f"{section}.{key}": value
        for section, settings in read_config(path, ("data", "model", "recipe")).items()
        for key, value in settings.items()
    }
    here.setdefault("recipe.augment", "none")
    return {key: value for key, value in here.items() if value is not None}  # null: as in the files


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
