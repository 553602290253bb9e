"""Fashion-MNIST: 70,000 grey 28x28 images of clothes in gzipped IDX files."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from experiments.checks import ConfigError

from . import fetch
from .dataset import Data
from .fingerprint import fingerprint
from .idx import read_idx
from .images import Images, check_labels, image_data, select_first

FOLDER = "fashion-mnist"
# Where the package dataset-fashion-mnist puts the files.
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
ADDRESS = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
TRAIN = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
TEST = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
CHECKSUMS = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
CLASSES = 10
SIDE = 28


def load_fashion_mnist(
    *,
    root: str | PathLike[str],
    download: bool,
    train_size: int | None,
    test_size: int | None,
    image_size: int | None,
) -> Data:
    """Load images [N, 1, 28, 28] from `root`/fashion-mnist, or else from where Debian's package puts them.

    `train_size` and `test_size` keep the first images, whose order is random already; None keeps all.
    `image_size` averages the images down to so many pixels a side.

    Raises:
        ConfigError: files absent and not to be fetched, damaged, of other sizes, or with impossible labels.
    """
    folder = Path(root).expanduser().absolute() / FOLDER
    if not folder.is_dir():
        if DEBIAN_FOLDER.is_dir():
            folder = DEBIAN_FOLDER
        else:
            provide(folder, download)
    train = read_part(folder, *TRAIN)
    test = read_part(folder, *TEST)
    return image_data(
        "fashion_mnist",
        select_first(train, "train_size", train_size),
        select_first(test, "test_size", test_size),
        CLASSES,
        image_size,
        fingerprint(folder, [folder / name for name in CHECKSUMS]),
    )


def provide(folder: Path, download: bool) -> None:
    """Download the four files into a new `folder`."""
    wanted = f"put {', '.join(CHECKSUMS)} ({ADDRESS}) into {folder}, or apt install dataset-fashion-mnist"

    def fill(empty_folder: Path) -> None:
        for name, md5 in CHECKSUMS.items():
            fetch.download(fetch.Remote(f"{ADDRESS}/{name}", md5), empty_folder / name)

    fetch.provide(folder, fill, download, FOLDER, wanted)


def read_part(folder: Path, images_name: str, labels_name: str) -> Images:
    """Read the images and labels of one part, and check that they belong together."""
    pixels = read_idx(folder / images_name, dimensions=3)  # [N, height, width]
    labels = read_idx(folder / labels_name, dimensions=1)  # [N]
    if pixels.shape[1:] != (SIDE, SIDE):
        size = "x".join(map(str, pixels.shape[1:]))
        raise ConfigError(
            f"data.root: {folder / images_name} holds {size} images, not {SIDE}x{SIDE}; replace it"
        )
    if len(pixels) != len(labels):
        counts = f"{len(pixels)} images, but {folder / labels_name} {len(labels)} labels"
        raise ConfigError(
            f"data.root: {folder / images_name} holds {counts}; replace both by the published files"
        )
    check_labels(labels, CLASSES, folder / labels_name)
    return Images(pixels.unsqueeze(1), labels)
