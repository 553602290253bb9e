"""A data set is known by what its files hold."""

import os
import shutil

import pytest

from experiments.data.fingerprint import fingerprint
from tests.experiments.data.image_files import write_cifar, write_fashion
from tests.experiments.small import loaded

FILES = ("a/1.png", "a/2.png", "b/1.png")


@pytest.fixture
def folder(tmp_path):
    for name in FILES:
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_text(name)
    return tmp_path / "set"


def of(folder, **options):
    return fingerprint(folder, (path for path in folder.rglob("*") if path.is_file()), **options)


def test_a_copy_elsewhere_has_the_same_fingerprint(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    os.utime(tmp_path / "copy" / FILES[0], ns=(1, 1))
    assert of(tmp_path / "copy") == of(folder)
    assert of(folder).startswith("3 files, 21 bytes, contents ")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / FILES[0]).write_text("A/1.png"),  # as long as before
        lambda folder: (folder / FILES[0]).unlink(),
        lambda folder: (folder / FILES[0]).rename(folder / "a/3.png"),
        lambda folder: (folder / FILES[0]).rename(folder / "b/2.png"),
    ],
)
def test_other_contents_names_or_classes_have_another(folder, change):
    before = of(folder)
    change(folder)
    assert of(folder) != before


def test_of_a_large_set_the_times_stand_for_the_contents(folder, tmp_path):
    large = of(folder, read_whole=20)
    assert large.startswith("3 files, 21 bytes, times ")
    shutil.copytree(folder, tmp_path / "copy")  # keeps the times
    assert of(tmp_path / "copy", read_whole=20) == large
    (folder / FILES[0]).write_text("A/1.png")
    assert of(folder, read_whole=20) != large


def test_every_data_set_of_files_has_one_and_it_does_not_depend_on_what_is_selected(tmp_path):
    write_fashion(tmp_path / "fashion-mnist")
    write_cifar(tmp_path / "cifar-10-batches-bin", "cifar10")
    section = {
        "root": str(tmp_path),
        "download": False,
        "train_size": None,
        "test_size": None,
        "image_size": None,
    }
    for name, files in (("fashion_mnist", 4), ("cifar10", 6)):
        data = loaded({"name": name} | section)
        assert data.fingerprint.startswith(f"{files} files, ")
        few = loaded({"name": name} | section | {"train_size": 9, "image_size": 4, "validation": 3})
        assert few.fingerprint == data.fingerprint
    assert loaded({"name": "digits"}).fingerprint == ""
