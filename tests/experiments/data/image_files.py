"""Small image sets in the published layouts, written by hand for the tests of `experiments.data`."""

import gzip
import io
import struct
import tarfile
from pathlib import Path

import numpy as np

FASHION_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def idx_bytes(array: np.ndarray, code: int = 0x08) -> bytes:
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_fashion(folder: Path, train: int = 30, test: int = 20, side: int = 28) -> dict[str, np.ndarray]:
    """Write the four files with random images and labels; give the arrays by file name."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for name, samples in zip(FASHION_FILES, (train, train, test, test), strict=True):
        shape = (samples, side, side) if "images" in name else (samples,)
        arrays[name] = rng.integers(0, 256 if "images" in name else 10, shape, dtype=np.uint8)
        (folder / name).write_bytes(gzip.compress(idx_bytes(arrays[name])))
    return arrays


def cifar_bytes(label_ranges: tuple[int, ...], records: int, seed: int) -> bytes:
    """Random records: one label byte per range, then 3,072 pixel bytes."""
    rng = np.random.default_rng(seed)
    columns = [rng.integers(0, classes, (records, 1), dtype=np.uint8) for classes in label_ranges]
    return np.hstack([*columns, rng.integers(0, 256, (records, 3072), dtype=np.uint8)]).tobytes()


def cifar_files(name: str) -> dict[str, bytes]:
    """All files of a small CIFAR set: 5 batches of 4 records, or 20 at once, and 8 test records."""
    if name == "cifar10":
        files = {f"data_batch_{number}.bin": cifar_bytes((10,), 4, number) for number in range(1, 6)}
        return files | {"test_batch.bin": cifar_bytes((10,), 8, 0)}
    return {"train.bin": cifar_bytes((20, 100), 20, 1), "test.bin": cifar_bytes((20, 100), 8, 0)}


def write_cifar(folder: Path, name: str) -> None:
    folder.mkdir(parents=True)
    for file, content in cifar_files(name).items():
        (folder / file).write_bytes(content)


def tar_gz(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
