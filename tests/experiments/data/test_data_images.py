"""Fashion-MNIST and CIFAR as they lie on disk: read right, or refused in one line that names the mend."""

import gzip
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays

from experiments.data import fashion_mnist
from experiments.data.idx import read_idx
from tests.experiments.data.image_files import (
    FASHION_FILES,
    cifar_bytes,
    idx_bytes,
    write_cifar,
    write_fashion,
)
from tests.experiments.data.test_data import error_line
from tests.experiments.small import loaded
from tests.no_files import NO_FILES, put
from tests.places import real_images

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FOLDERS = {
    "cifar10": "cifar-10-batches-bin",
    "cifar100": "cifar-100-binary",
    "fashion_mnist": "fashion-mnist",
}


def config(name: str, root: Path, **others) -> dict:
    return {
        "name": name,
        "root": str(root),
        "download": False,
        "train_size": None,
        "test_size": None,
    } | others


def standardised(pixels: np.ndarray, train_pixels: np.ndarray) -> np.ndarray:
    """Images [N, channel, height, width] by the channel moments of the training images, in float64."""
    axes = (0, 2, 3)
    mean = train_pixels.mean(axis=axes, keepdims=True, dtype=np.float64)
    return (pixels - mean) / train_pixels.std(axis=axes, keepdims=True, dtype=np.float64)


@pytest.mark.parametrize(
    ("name", "train_files", "test_file", "label_bytes", "classes", "counts"),
    [
        ("cifar10", [f"data_batch_{n}.bin" for n in (1, 2, 3, 4, 5)], "test_batch.bin", 1, 10, (5000, 1000)),
        ("cifar100", ["train.bin"], "test.bin", 2, 100, (480, 900)),
    ],
)
def test_real_cifar_is_read_as_numpy_reads_it(name, train_files, test_file, label_bytes, classes, counts):
    folder = real_images(FOLDERS[name])
    records = [np.fromfile(folder / file, np.uint8).reshape(-1, label_bytes + 3072) for file in train_files]
    train, test = (
        np.concatenate(records),
        np.fromfile(folder / test_file, np.uint8).reshape(-1, label_bytes + 3072),
    )
    train_pixels, test_pixels = (part[:, label_bytes:].reshape(-1, 3, 32, 32) for part in (train, test))

    data = loaded(config(name, folder.parent))
    assert (len(data.train_labels), len(data.test_labels)) == counts
    assert (data.name, data.classes, data.sample_shape) == (name, classes, (3, 32, 32))
    assert (data.train_inputs.dtype, data.train_labels.dtype) == (torch.float32, torch.int64)
    np.testing.assert_allclose(data.train_inputs, standardised(train_pixels, train_pixels), atol=1e-5)
    np.testing.assert_allclose(data.test_inputs, standardised(test_pixels, train_pixels), atol=1e-5)
    np.testing.assert_array_equal(data.train_labels, train[:, label_bytes - 1])
    np.testing.assert_array_equal(data.test_labels, test[:, label_bytes - 1])


def test_sizes_keep_the_first_records_and_standardise_by_them(tmp_path):
    write_cifar(tmp_path / FOLDERS["cifar100"], "cifar100")
    raw = np.fromfile(tmp_path / FOLDERS["cifar100"] / "train.bin", np.uint8).reshape(20, 3074)[:7]
    pixels = raw[:, 2:].reshape(7, 3, 32, 32)
    data = loaded(config("cifar100", tmp_path, train_size=7, test_size=8))
    np.testing.assert_allclose(data.train_inputs, standardised(pixels, pixels), atol=1e-5)
    np.testing.assert_array_equal(data.train_labels, raw[:, 1])
    assert len(data.test_labels) == 8


@pytest.mark.parametrize(
    ("name", "file", "content", "parts"),
    [
        ("cifar10", "data_batch_3.bin", None, ["data_batch_3.bin", "No such file", "cifar-10-binary.tar.gz"]),
        ("cifar10", "test_batch.bin", b"", ["test_batch.bin holds 0 bytes", "3073-byte records"]),
        ("cifar10", "data_batch_1.bin", cifar_bytes((10,), 4, 1)[:-1], ["12291 bytes", "3073-byte records"]),
        ("cifar10", "data_batch_5.bin", cifar_bytes((11,), 500, 1), ["holds the label 10", "0 to 9"]),
        ("cifar100", "train.bin", cifar_bytes((20, 200), 50, 1), ["train.bin holds the label", "0 to 99"]),
        ("cifar100", "test.bin", cifar_bytes((99, 100), 50, 1), ["test.bin holds the label", "0 to 19"]),
        ("cifar100", "train.bin", bytes(3074 * 5), ["one value throughout a channel", "replace"]),
    ],
)
def test_a_bad_cifar_file_is_named_with_its_mend(tmp_path, name, file, content, parts):
    folder = tmp_path / FOLDERS[name]
    write_cifar(folder, name)
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    line = error_line(config(name, tmp_path))
    assert all(part in line for part in [*parts, "replace"]), line


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize(
    ("name", "file"), [("cifar10", "data_batch_2.bin"), ("fashion_mnist", FASHION_FILES[2])]
)
def test_what_is_no_file_is_named_and_not_waited_for(tmp_path, name, file, kind):
    folder = tmp_path / FOLDERS[name]
    (write_fashion(folder) if name == "fashion_mnist" else write_cifar(folder, name))
    put(kind, folder / file)
    line = error_line(config(name, tmp_path))
    assert all(part in line for part in (str(folder / file), f"is a {kind}, not a file", "replace")), line


@pytest.mark.parametrize(
    ("name", "file", "record", "most"),
    [("cifar10", "data_batch_1.bin", 3073, 10_000), ("cifar100", "test.bin", 3074, 50_000)],
)
@pytest.mark.parametrize("records", [1, 13_000_000], ids=["one more", "40 GB"])
def test_a_cifar_file_larger_than_the_published_one_is_not_read(tmp_path, name, file, record, most, records):
    folder = tmp_path / FOLDERS[name]
    write_cifar(folder, name)
    with (folder / file).open("wb") as sparse:
        sparse.truncate((most + records) * record)
    line = error_line(config(name, tmp_path))
    said = f"{folder / file} holds {most + records} records, more than the {most} of the published file"
    assert said in line
    assert "replace" in line


def test_image_size_averages_pixels_before_they_are_standardised(tmp_path):
    write_cifar(tmp_path / FOLDERS["cifar10"], "cifar10")
    files = [f"data_batch_{number}.bin" for number in range(1, 6)], ["test_batch.bin"]
    records = [
        np.concatenate([np.fromfile(tmp_path / FOLDERS["cifar10"] / name, np.uint8) for name in names])
        for names in files
    ]
    small = [part.reshape(-1, 3073)[:, 1:].reshape(-1, 3, 16, 2, 16, 2).mean((3, 5)) for part in records]
    data = loaded(config("cifar10", tmp_path, image_size=16))
    assert data.sample_shape == (3, 16, 16)
    for inputs, part in zip((data.train_inputs, data.test_inputs), small, strict=True):
        np.testing.assert_allclose(inputs.numpy(), standardised(part, small[0]), atol=1e-5)


def test_a_size_beyond_the_files_is_refused(tmp_path):
    write_cifar(tmp_path / FOLDERS["cifar10"], "cifar10")
    assert "data.train_size=21: must be at most 20" in error_line(config("cifar10", tmp_path, train_size=21))
    assert "data.test_size=9: must be at most 8" in error_line(config("cifar10", tmp_path, test_size=9))
    assert "data.image_size=33: must be at most 32" in error_line(config("cifar10", tmp_path, image_size=33))


@pytest.mark.parametrize("name", FOLDERS)
def test_absent_files_say_what_to_put_where(tmp_path, name):
    line = error_line(config(name, tmp_path))
    assert all(
        part in line
        for part in [f"data.root={tmp_path}", FOLDERS[name], "put", "https://", "data.download=true"]
    )
    assert list(tmp_path.iterdir()) == []


@settings(derandomize=True, deadline=None, max_examples=50)
@given(array=array_shapes(max_dims=4, max_side=5).flatmap(lambda shape: arrays(np.uint8, shape)))
def test_any_idx_file_comes_back(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("idx") / "file.gz"
    path.write_bytes(gzip.compress(idx_bytes(array)))
    np.testing.assert_array_equal(read_idx(path, array.ndim), array)


def test_fashion_mnist_is_read_as_it_was_written(tmp_path):
    written = write_fashion(tmp_path / "fashion-mnist")
    train_pixels, train_labels, test_pixels, test_labels = (written[name] for name in FASHION_FILES)
    data = loaded(config("fashion_mnist", tmp_path))
    assert (data.name, data.classes, data.sample_shape) == ("fashion_mnist", 10, (1, 28, 28))
    np.testing.assert_allclose(
        data.train_inputs, standardised(train_pixels[:, None], train_pixels[:, None]), atol=1e-5
    )
    np.testing.assert_allclose(
        data.test_inputs, standardised(test_pixels[:, None], train_pixels[:, None]), atol=1e-5
    )
    np.testing.assert_array_equal(data.train_labels, train_labels)
    np.testing.assert_array_equal(data.test_labels, test_labels)


def test_fashion_mnist_falls_back_to_the_debian_package(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "package")
    write_fashion(tmp_path / "package", train=5)
    assert len(loaded(config("fashion_mnist", tmp_path / "root")).train_labels) == 5
    write_fashion(tmp_path / "root" / "fashion-mnist", train=6)
    assert len(loaded(config("fashion_mnist", tmp_path / "root")).train_labels) == 6


def test_real_fashion_mnist_has_its_published_moments(monkeypatch):
    if not DEBIAN.is_dir():
        pytest.skip(f"Debian's package dataset-fashion-mnist is not installed: no {DEBIAN}")
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", DEBIAN)
    data = loaded(config("fashion_mnist", Path("nowhere")))
    assert data.train_labels.bincount().tolist() == [6000] * 10
    assert data.test_labels.bincount().tolist() == [1000] * 10
    # Black and white at the widely used moments of pixels in [0, 1]: mean 0.2860, standard deviation 0.3530.
    assert data.train_inputs.min() == pytest.approx(-0.2860 / 0.3530, abs=1e-3)
    assert data.train_inputs.max() == pytest.approx((1 - 0.2860) / 0.3530, abs=1e-3)


def gzip_bomb(path: Path, header: bytes, megabytes: int) -> None:
    """A gzip file of a thousandth of the size that it unpacks to."""
    packer = zlib.compressobj(wbits=31)
    with path.open("wb") as file:
        file.write(packer.compress(header))
        for _ in range(megabytes):
            file.write(packer.compress(bytes(1 << 20)))
        file.write(packer.flush())


@pytest.mark.parametrize(
    ("shape", "held"),
    [((30, 28, 28), "at least 23521 elements"), ((10**6, 28, 28), "at least 47040001 elements")],
    ids=["more than is stated", "more than was published"],
)
def test_a_gzip_bomb_is_unpacked_no_further_than_a_published_file(tmp_path, shape, held):
    folder = tmp_path / "fashion-mnist"
    write_fashion(folder)
    gzip_bomb(folder / IMAGES, bytes([0, 0, 8, 3]) + struct.pack(">3I", *shape), megabytes=100)
    tracemalloc.start()
    line = error_line(config("fashion_mnist", tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"{IMAGES} holds {held}, its header states {shape}" in line
    assert peak < 150e6


def test_a_gzip_file_larger_than_a_published_one_unpacked_is_not_read(tmp_path):
    folder = tmp_path / "fashion-mnist"
    write_fashion(folder)
    with (folder / LABELS).open("ab") as padded:
        padded.truncate(40 * 10**9)
    line = error_line(config("fashion_mnist", tmp_path))
    assert f"cannot read {folder / LABELS} (40000000000 bytes, more than" in line


IMAGES, LABELS = FASHION_FILES[:2]
GOOD_IMAGES = idx_bytes(np.arange(30 * 28 * 28, dtype=np.uint8).reshape(30, 28, 28))
WRONG_LABEL = np.append(np.zeros(29, np.uint8), np.uint8(10))


@pytest.mark.parametrize(
    ("file", "content", "parts"),
    [
        (IMAGES, None, ["cannot read", "No such file"]),
        (IMAGES, b"", ["IDX file of bytes with 3 dim"]),
        (IMAGES, GOOD_IMAGES, ["cannot read", "Not a gzipped file"]),
        (IMAGES, gzip.compress(GOOD_IMAGES)[:-200], ["cannot read", "ended before"]),
        (IMAGES, gzip.compress(GOOD_IMAGES)[:-8] + bytes(8), ["cannot read", "CRC"]),
        (IMAGES, gzip.compress(GOOD_IMAGES)[:40] + bytes(400), ["cannot read"]),
        (
            IMAGES,
            gzip.compress(idx_bytes(np.zeros(30, np.uint8))),
            ["IDX file of bytes with 3 dim", "00 00 08 01"],
        ),
        (IMAGES, gzip.compress(idx_bytes(np.zeros((1, 28, 28), np.uint8), code=0x0D)), ["00 00 0d 03"]),
        (IMAGES, gzip.compress(GOOD_IMAGES[:9]), ["IDX file of bytes with 3 dim"]),
        (IMAGES, gzip.compress(GOOD_IMAGES[:-1]), ["23519 elements", "(30, 28, 28)"]),
        (IMAGES, gzip.compress(GOOD_IMAGES + b"?"), ["23521 elements", "(30, 28, 28)"]),
        (IMAGES, gzip.compress(idx_bytes(np.zeros((0, 28, 28), np.uint8))), ["0 elements", "at least 1"]),
        (IMAGES, gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12 + b"x"), ["1 elements", "4294967295"]),
        (IMAGES, gzip.compress(idx_bytes(np.zeros((30, 8, 9), np.uint8))), ["8x9 images", "28x28"]),
        (LABELS, gzip.compress(idx_bytes(np.zeros(29, np.uint8))), ["30 images", "29 labels"]),
        (LABELS, gzip.compress(idx_bytes(WRONG_LABEL)), ["label 10", "0 to 9"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",  # packed bytes hold the time of packing
)
def test_a_bad_fashion_mnist_file_is_named_with_its_mend(tmp_path, file, content, parts):
    folder = tmp_path / "fashion-mnist"
    write_fashion(folder)
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    line = error_line(config("fashion_mnist", tmp_path))
    assert all(part in line for part in [*parts, str(folder / file), "replace"]), line
