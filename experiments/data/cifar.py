"""CIFAR-10 and CIFAR-100 in their official binary layout, which needs no pickle.

A file is a row of records without a header: one or two label bytes, then 3 x 32 x 32 pixel bytes.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from experiments.checks import ConfigError, regular_file

from . import fetch
from .dataset import Data
from .fingerprint import fingerprint
from .images import Images, check_labels, image_data, select_first

SHAPE = (3, 32, 32)
PIXEL_BYTES = 3 * 32 * 32


class Layout(NamedTuple):
    """One of the two sets: its folder and archive, the files of each part, and what the files hold."""

    name: str
    folder: str
    archive: fetch.Remote
    train_files: tuple[str, ...]
    test_files: tuple[str, ...]
    label_ranges: tuple[
        int, ...
    ]  # of each label byte; the last one is the class, CIFAR-100 has its coarse class before it
    most_records: int  # in a file as published

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.label_ranges[-1]


CIFAR10 = Layout(
    name="cifar10",
    folder="cifar-10-batches-bin",
    archive=fetch.Remote(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"
    ),
    train_files=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    test_files=("test_batch.bin",),
    label_ranges=(10,),
    most_records=10_000,
)
CIFAR100 = Layout(
    name="cifar100",
    folder="cifar-100-binary",
    archive=fetch.Remote(
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"
    ),
    train_files=("train.bin",),
    test_files=("test.bin",),
    label_ranges=(20, 100),
    most_records=50_000,
)


def load_cifar(
    layout: Layout,
    *,
    root: str | PathLike[str],
    download: bool,
    train_size: int | None,
    test_size: int | None,
    image_size: int | None,
) -> Data:
    """Load images [N, 3, 32, 32] from the layout's folder inside `root`, after fetching it if it is absent.

    All records that the files hold are read, so a folder with fewer images than the official one serves too.
    `train_size` and `test_size` keep the first records, whose order is random already; None keeps all.
    `image_size` averages the images down to so many pixels a side.

    Raises:
        ConfigError: files absent and not to be fetched, missing, truncated, empty, larger than the published ones,
            or with impossible labels.
    """
    folder = Path(root).expanduser().absolute() / layout.folder
    if not folder.is_dir():
        provide(layout, folder, download)
    train = read_records(layout, [folder / name for name in layout.train_files])
    test = read_records(layout, [folder / name for name in layout.test_files])
    return image_data(
        layout.name,
        select_first(train, "train_size", train_size),
        select_first(test, "test_size", test_size),
        layout.classes,
        image_size,
        fingerprint(folder, [folder / name for name in layout.train_files + layout.test_files]),
    )


def provide(layout: Layout, folder: Path, download: bool) -> None:
    """Make `folder` from the archive beside it, or from a downloaded one that is thrown away afterwards."""
    local_archive = folder.parent / layout.archive.name
    wanted = f"put the folder {layout.folder} or {layout.archive.name} ({layout.archive.url}) there"

    def fill(empty_folder: Path) -> None:
        if local_archive.is_file():
            archive = local_archive
            fetch.verify(archive, layout.archive)
        else:
            archive = empty_folder.parent / layout.archive.name
            fetch.download(layout.archive, archive)
        fetch.unpack(archive, layout.train_files + layout.test_files, empty_folder)

    fetch.provide(folder, fill, download or local_archive.is_file(), layout.name, wanted)


def read_records(layout: Layout, paths: list[Path]) -> Images:
    """Read the records of all `paths`, one file after the other."""
    label_bytes = len(layout.label_ranges)
    record_bytes = label_bytes + PIXEL_BYTES
    parts = []
    for path in paths:
        mend = f"replace it by the one in {layout.archive.url}"
        try:
            size = regular_file(path).stat().st_size  # first: the file may be larger than memory
            if size == 0 or size % record_bytes:
                wrong = f"not a whole number (at least 1) of {record_bytes}-byte records"
                raise ConfigError(f"data.root: {path} holds {size} bytes, {wrong}; {mend}")
            if (records := size // record_bytes) > layout.most_records:
                wrong = f"{records} records, more than the {layout.most_records} of the published file"
                raise ConfigError(f"data.root: {path} holds {wrong}; {mend}")
            content = np.fromfile(path, dtype=np.uint8, count=size)
        except OSError as error:
            raise ConfigError(f"data.root: cannot read {path} ({error.strerror}); {mend}") from error
        part = torch.from_numpy(content).view(-1, record_bytes)  # [records, label bytes and pixel bytes]
        for column, classes in enumerate(layout.label_ranges):
            check_labels(part[:, column], classes, path)
        parts.append(part)
    records = torch.cat(parts)
    return Images(records[:, label_bytes:].unflatten(1, SHAPE), records[:, label_bytes - 1])
