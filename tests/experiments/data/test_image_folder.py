"""A folder of image files: what is read of them, what is refused, and a network for ImageNet trained on one."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.checks import ConfigError
from experiments.data import Data
from experiments.data.image_files import MEAN, STD
from experiments.training.augment import black_pixel, crop_flip, draw_moves, measured_data
from tests.conftest import files_below
from tests.experiments.small import RECIPE, loaded

Image = pytest.importorskip("PIL.Image", reason="Pillow comes with the extra imagenet")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three classes of small images of other sizes and kinds each; 8 a class to train on, 3 to test."""
    random = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 3)):
        for name, size, suffix in (
            ("ant", (40, 32), "png"),
            ("bee", (32, 50), "jpg"),
            ("cat", (64, 64), "jpeg"),
        ):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
                image = Image.fromarray(pixels)
                if name == "bee":
                    image = image.convert("L")
                image.save(tmp_path / part / name / f"{number}.{suffix}")
    (tmp_path / "train" / "ant" / "notes.txt").write_text("no image")
    return tmp_path


def load(folder: Path, **changes: object) -> Data:
    settings = {"name": "image_folder", "root": str(folder), "image_size": 28}
    return loaded({"train_size": None, "test_size": None} | settings | changes)


def standardised(pixels: np.ndarray) -> torch.Tensor:
    """[height, width, 3] of 0 to 255 -> [3, height, width]"""
    return torch.from_numpy((pixels / 255 - MEAN) / STD).movedim(-1, 0).float()


def test_images_are_resized_cropped_and_standardised_when_they_are_read(folder):
    data = load(folder)
    assert (len(data.train_inputs), len(data.test_inputs), data.classes) == (24, 9, 3)
    assert data.sample_shape == (3, 28, 28)
    assert sorted(data.train_labels.tolist()) == [0] * 8 + [1] * 8 + [2] * 8
    for number, (file, label) in enumerate(
        zip(data.train_inputs.files, data.train_labels.tolist(), strict=True)
    ):
        assert file.parent.name == ["ant", "bee", "cat"][label]
        image = Image.open(file).convert("RGB")
        if label == 2:  # twice too large
            image = image.resize((32, 32), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)  # its shorter side is 32 now, which is 28 * 256 / 224
        top, left = (pixels.shape[0] - 28) // 2, (pixels.shape[1] - 28) // 2
        expected = standardised(pixels[top : top + 28, left : left + 28])
        torch.testing.assert_close(data.train_inputs[torch.tensor(number)], expected, rtol=1e-5, atol=1e-5)


def test_grey_images_of_16_bits_keep_their_values(folder):
    """Two 16-bit files of one picture, one as 8 bits, are the same picture to half a step."""
    random = np.random.default_rng(1)
    values = random.integers(0, 65536, (32, 32), dtype=np.uint16)
    for number, pixels in enumerate([values, (values / 257).round().astype(np.uint8)]):
        Image.fromarray(pixels).save(folder / "train" / "ant" / f"grey{number}.png")
    inputs = load(folder).train_inputs
    places = [inputs.files.index(folder / "train" / "ant" / f"grey{number}.png") for number in (0, 1)]
    wide, narrow = inputs[torch.tensor(places)]
    assert wide.equal(narrow)
    assert len(wide.unique()) > 200


@pytest.mark.parametrize(
    "content",
    [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", b"GIF89a" + bytes(40)],
    ids=["eps", "gif"],
)
def test_other_formats_under_a_png_name_are_refused(folder, content):
    file = folder / "train" / "ant" / "0.png"
    file.write_bytes(content)
    inputs = load(folder).train_inputs
    with pytest.raises(OSError, match=r"0\.png cannot be read as an image, PNG or JPEG"):
        inputs[torch.tensor([inputs.files.index(file)])]


def test_it_stands_for_a_tensor(folder):
    files = load(folder).to("cpu").train_inputs
    whole = torch.stack([files[torch.tensor(number)] for number in range(24)])
    assert files[:].equal(whole)
    assert files[2:5].equal(whole[2:5])
    index = torch.tensor([[3, 1], [0, 23]])
    assert files[index].equal(whole[index])
    assert files[index[0]].is_contiguous(memory_format=torch.channels_last)
    for ours, theirs in ((files.split(7), whole.split(7)), (files.tensor_split(5), whole.tensor_split(5))):
        for one, other in zip(ours, theirs, strict=True):
            assert one.equal(other)
    assert (len(files), files.shape, files.dtype, files.device) == (
        24,
        whole.shape,
        whole.dtype,
        whole.device,
    )


def test_the_first_images_are_an_even_choice_that_never_changes(folder):
    data, again = load(folder, train_size=12), load(folder, train_size=20)
    assert data.train_inputs.files == again.train_inputs.files[:12]
    assert set(data.train_labels.tolist()) == {0, 1, 2}


def test_a_validation_part_stays_on_disk_too(folder):
    data, held = load(folder), load(folder, validation=6)
    assert (len(held.train_inputs), len(held.validation_inputs)) == (18, 6)
    files = held.train_inputs.files + held.validation_inputs.files
    assert sorted(files) == sorted(data.train_inputs.files)
    assert held.validation_labels.tolist() == [
        ["ant", "bee", "cat"].index(file.parent.name) for file in held.validation_inputs.files
    ]


def test_what_is_measured_on_is_augmented_as_it_is_read(folder):
    data = load(folder)
    measured = measured_data(data, replace(RECIPE, augment="crop_flip")).train_inputs
    corners, mirrored = draw_moves(24, "measure")
    expected = crop_flip(data.train_inputs[:], corners, mirrored, black_pixel(data))
    assert measured[:].equal(expected)
    index = torch.tensor([5, 2, 2])
    assert measured[index].equal(expected[index])


def test_what_is_missing_is_said_in_one_line(folder):
    for change, line in (
        ({"train_size": 25}, "data.train_size=25: must be at most 24"),
        ({"root": str(folder / "train")}, f"data.root: {folder}/train/train holds no images"),
    ):
        with pytest.raises(ConfigError) as raised:
            load(folder, **change)
        assert str(raised.value).startswith(line)
    (folder / "val" / "dog").mkdir()
    (folder / "val" / "ant" / "0.png").rename(folder / "val" / "dog" / "0.png")
    with pytest.raises(ConfigError, match="val/dog is a class of which train holds no images"):
        load(folder)


def test_a_file_that_is_no_image_is_named(folder):
    (folder / "train" / "ant" / "0.png").write_bytes(b"no image")
    with pytest.raises(OSError, match=r"ant/0\.png cannot be read as an image"):
        load(folder).train_inputs[:]


@pytest.mark.parametrize("model", ["resnet200", "senet154"])
def test_networks_for_imagenet_train_on_a_folder(run, folder, model):
    small = ["model.depth=14", "model.width=4", "model.cardinality=2", "model.group_width=4"]
    ended = run(
        "data=image_folder", f"data.root={folder}", "data.image_size=40", f"model={model}", *small,
        "recipe.epochs=2", "recipe.batch_size=8", "recipe.augment=crop_flip", "processes=1", "output=out",
        "members.seed=[0]", "members.dropout={rate: [0.2], placement: [after_last_bn]}",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    (study,) = (Path.cwd() / "out").iterdir()
    members, layers = pd.read_csv(study / "members.csv"), pd.read_csv(study / "layers.csv")
    assert list(members.placement) == ["none", "after_last_bn"]
    assert (members.status == "ok").all()
    assert members.test_error.between(0, 100).all()
    assert layers.shift_ratio.notna().all()


def test_other_pictures_under_the_same_settings_are_other_data(run, folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(folder, elsewhere / "same")
    shutil.copytree(folder, elsewhere / "other")
    first, second = (elsewhere / "other" / "train" / "ant" / f"{number}.png" for number in (0, 1))
    first.write_bytes(second.read_bytes())
    arguments = [
        "data=image_folder", "data.image_size=8", "model=convnet", "model.width=4", "recipe.epochs=1",
        "recipe.batch_size=8", "processes=1", "output=out", "members.seed=[0]", "members.dropout=null",
        "members.uout=null", "members.gaussian=null",
    ]  # fmt: skip
    made = run(*arguments, f"data.root={folder}", "study=mine")
    assert made.status == 0, made.err
    there = files_below(Path("out/mine"))

    again = run(*arguments, f"data.root={elsewhere / 'same'}", "study=mine")
    assert "1 of 1 jobs are finished already" in again.err
    refused = run(*arguments, f"data.root={elsewhere / 'other'}", "study=mine")
    assert refused.status == 2
    assert re.fullmatch(
        r"error: data=image_folder: out/mine/jobs/\S+ was trained on other data \(33 files, .*\); choose another "
        r"study=NAME, or set data.root to the data of that time\n",
        refused.err,
    )
    assert files_below(Path("out/mine")) == there
    assert run(*arguments, f"data.root={elsewhere / 'other'}", "study=other").status == 0
    losses = [pd.read_csv(Path("out") / study / "epochs.csv")["train_loss"] for study in ("mine", "other")]
    assert not losses[0].equals(losses[1])
