"""A folder of image files: what is read of them, what is refused, and a network for ImageNet trained on one."""

import os
import re
import shutil
import struct
import zlib
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
from tests.no_files import NO_FILES, put

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


def refusal(folder: Path, **changes: object) -> str:
    """The line with which the folder is refused."""
    with pytest.raises(ConfigError) as raised:
        load(folder, **changes)
    (line,) = str(raised.value).splitlines()
    assert line.isprintable()
    return line


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
    (folder / "train" / "ant" / "0.png").write_bytes(content)
    assert "train/ant/0.png cannot be read as an image, PNG or JPEG" in refusal(folder)


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


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    """One bit of the pixels, or of their checksum."""
    return content[:-20] + bytes([content[-20] ^ 1]) + content[-19:]


def png_header(width: int, height: int) -> bytes:
    """A PNG that states its size and has no pixels."""
    chunk = b"IHDR" + struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    end = b"\0\0\0\0IEND\xaeB`\x82"
    return b"\x89PNG\r\n\x1a\n\0\0\0\r" + chunk + struct.pack(">I", zlib.crc32(chunk)) + end


@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("ant/0.png", lambda content: b"no image"),
        ("ant/0.png", lambda content: b""),
        ("ant/0.png", cut),
        ("bee/0.jpg", cut),
        ("cat/0.jpeg", lambda content: content[:-2]),
        ("ant/0.png", flip),
        ("ant/0.png", lambda content: png_header(0, 5)),
        ("ant/0.png", lambda content: png_header(10_000, 10_000)),
        ("ant/0.png", lambda content: png_header(100_000, 100_000)),
    ],
    ids=["text", "empty", "cut png", "cut jpg", "cut jpeg", "bit", "no width", "large", "bomb"],
)
def test_a_damaged_image_is_named_before_anything_is_trained(folder, part, name, damage):
    file = folder / part / name
    file.write_bytes(damage(file.read_bytes()))
    assert f"{file} cannot be read as an image, PNG or JPEG" in refusal(folder)


def test_an_image_that_only_resizing_would_make_large_is_named(folder):
    Image.new("L", (10_000, 1)).save(folder / "train" / "ant" / "0.png")
    line = refusal(folder, image_size=224)
    assert "train/ant/0.png cannot be read" in line
    assert "10000x1 pixels, resized 2560000x256: allowed are" in line


def test_of_many_damaged_images_the_first_is_named_and_the_others_counted(folder):
    for number in range(3):
        (folder / "train" / "bee" / f"{number}.jpg").write_bytes(b"")
    line = refusal(folder)
    assert line.startswith(f"data.root: {folder}/train/bee/0.jpg cannot be read")
    assert "nor can 2 more" in line


def test_a_whole_image_with_something_behind_it_is_read(folder):
    for name in ("ant/0.png", "bee/0.jpg"):
        with (folder / "train" / name).open("ab") as file:
            file.write(b"appended")
    assert len(load(folder).train_inputs[:]) == 24


def test_only_images_that_are_used_must_be_whole(folder):
    last = load(folder).train_inputs.files[-1]
    last.write_bytes(b"")
    assert len(load(folder, train_size=23).train_inputs[:]) == 23
    assert str(last) in refusal(folder)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_named_and_not_waited_for(folder, kind):
    put(kind, folder / "train" / "ant" / "0.png")
    line = refusal(folder)
    assert f"{folder}/train/ant/0.png cannot be read" in line
    assert f"is a {kind}, not a file" in line


@pytest.mark.parametrize(
    "target", ["0.png", "gone.png", "/proc/self/mem"], ids=["loop", "gone", "unreadable"]
)
def test_a_link_that_leads_to_no_image_is_named(folder, target):
    link = folder / "train" / "ant" / "0.png"
    link.unlink()
    link.symlink_to(target)
    assert f"{link} cannot be read" in refusal(folder)


@pytest.mark.parametrize("target", ["dog", "/nowhere/dog"], ids=["loop", "gone"])
def test_a_class_that_cannot_be_listed_is_not_left_out(folder, target):
    (folder / "train" / "dog").symlink_to(target)
    line = refusal(folder)
    assert line.startswith(f"data.root: cannot list {folder}/train/dog (")


def test_links_that_lead_round_in_circles_are_followed_once(folder):
    before = load(folder).train_inputs.files
    (folder / "train" / "ant" / "up").symlink_to("..")
    (folder / "train" / "here").symlink_to(".")
    assert load(folder).train_inputs.files == before


@pytest.mark.parametrize("name", ["a\nb.png", os.fsdecode(b"\xff.png")], ids=["newline", "no text"])
def test_names_may_be_anything_and_are_named_in_one_line(folder, name):
    file = (folder / "train" / "ant" / "0.png").rename(folder / "train" / "ant" / name)
    assert len(load(folder).train_inputs[:]) == 24
    file.write_bytes(b"")
    assert f"{folder}/train/ant/" in refusal(folder)


def test_pixels_that_turn_out_damaged_when_they_are_read_name_their_file(folder):
    inputs = load(folder).train_inputs
    inputs.files[3].write_bytes(b"")
    with pytest.raises(OSError, match=f"{inputs.files[3].name} cannot be read as an image"):
        inputs[:]


def test_a_command_refuses_a_damaged_image_and_writes_nothing(run, folder):
    (folder / "val" / "cat" / "1.jpeg").write_bytes(b"")
    ended = run("data=image_folder", f"data.root={folder}", "model=resnet200", "processes=1", "output=out")
    assert (ended.status, ended.out) == (2, "")
    (line,) = ended.err.splitlines()
    assert f"{folder}/val/cat/1.jpeg" in line
    assert not (folder / "out").exists()


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
    assert "grow: all 1 members are there" in again.err
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
