"""A folder of image files, a folder for each class, as ImageNet is unpacked by custom."""

from __future__ import annotations

import stat
from importlib.util import find_spec
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from experiments.checks import ConfigError
from experiments.seeds import generator

from .dataset import Data
from .fingerprint import fingerprint
from .image_files import MEAN, STD, ImageFiles

SUFFIXES = (".jpeg", ".jpg", ".png")


def load_image_folder(
    *, root: str | PathLike[str], train_size: int | None, test_size: int | None, image_size: int
) -> Data:
    """List the images of `root`/train/CLASS and `root`/val/CLASS, and look at their headers.

    Their pixels are read when they are looked at.

    Classes are numbered in the order of their names. `train_size` and `test_size` keep the first images of an
    order that is drawn once and for all; None keeps all.

    Raises:
        ConfigError: a folder without images or that cannot be read, a class of which there are none to train on,
            fewer images than asked for, a file that is no image, broken off or damaged, or no Pillow.
    """
    if find_spec("PIL") is None:
        raise ConfigError("data=image_folder: needs Pillow; pip install 'variance-shift[imagenet]'")
    folder = Path(root).expanduser().absolute()
    train, test = (list_images(folder / part) for part in ("train", "val"))
    classes = sorted(train)
    if unknown := sorted(set(test) - set(classes)):
        raise ConfigError(
            f"data.root: {folder / 'val' / unknown[0]} is a class of which train holds no images"
        )
    train_inputs, train_labels = _choose(train, classes, "train_size", train_size, image_size)
    test_inputs, test_labels = _choose(test, classes, "test_size", test_size, image_size)
    mean, std = (255 * torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return Data(
        "image_folder",
        train_inputs,
        train_labels,
        test_inputs,
        test_labels,
        len(classes),
        pixel_mean=mean,
        pixel_std=std,
        fingerprint=fingerprint(folder, chain(*train.values(), *test.values())),
    )


def _choose(
    images: dict[str, list[Path]], classes: list[str], key: str, size: int | None, image_size: int
) -> tuple[Tensor, Tensor]:
    """Return the inputs and labels of `size` images, all for None, in an order that never changes."""
    files = [(file, classes.index(name)) for name in sorted(images) for file in images[name]]
    if size is not None and size > len(files):
        raise ConfigError(f"data.{key}={size}: must be at most {len(files)}, the number of images there")
    order = torch.randperm(len(files), generator=generator("image_folder", key))[:size].tolist()
    inputs = ImageFiles([files[number][0] for number in order], image_size)
    if faults := inputs.faults():
        others = f", nor can {len(faults) - 1} more" if len(faults) > 1 else ""
        raise ConfigError(f"data.root: {faults[0]}{others}; replace or remove what is no image")
    # What the harness does with inputs, ImageFiles can do.
    return cast(Tensor, inputs), torch.tensor([files[number][1] for number in order])


def list_images(folder: Path) -> dict[str, list[Path]]:
    """Return the image files of each class in `folder`, in the order of their names. Raises ConfigError."""
    try:
        entries = sorted(folder.iterdir()) if folder.exists() else []
        # A link that leads nowhere raises too: it may have been a class.
        classes = [entry for entry in entries if stat.S_ISDIR(entry.stat().st_mode)]
        listed = {entry.name: sorted(entry.iterdir()) for entry in classes}
    except OSError as error:
        raise ConfigError(f"data.root: cannot list {error.filename} ({error.strerror})") from error
    images = {
        name: chosen
        for name, files in listed.items()
        if (chosen := [file for file in files if file.suffix.lower() in SUFFIXES])
    }
    if not images:
        raise ConfigError(
            f"data.root: {folder} holds no images; put them there as CLASS/NAME.jpg (or .jpeg, .png)"
        )
    return images
