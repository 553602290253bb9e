"""Augmentation of whole batches, against a plain loop over images as the paper's code base does it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from experiments.data import Data
from experiments.data.images import Images, image_data
from experiments.jobs.chunk import run_chunk
from experiments.networks import ModelSettings
from experiments.training.augment import augmented_batches, black_pixel, crop_flip, draw_moves, measured_data
from experiments.training.train import stacked_batches
from tests.experiments.data.raw_images import DATA, RAW
from tests.experiments.networks.small_networks import member
from tests.experiments.small import RECIPE, small_job


def one_by_one(raw: Tensor, corners: Tensor, mirrored: Tensor) -> Tensor:
    """Pad with zeros, crop, mirror, and only then standardise, image by image."""
    train = RAW[0].double()
    mean, std = train.mean((0, 2, 3)), train.std((0, 2, 3), correction=0)
    moved = []
    for image, (row, column), mirror in zip(raw.double(), corners.tolist(), mirrored.tolist(), strict=True):
        padded = torch.zeros(3, 16, 18, dtype=torch.double)
        padded[:, 4:12, 4:14] = image
        crop = padded[:, row : row + 8, column : column + 10]
        moved.append(((crop.flip(-1) if mirror else crop) - mean[:, None, None]) / std[:, None, None])
    return torch.stack(moved)


def test_batches_are_cropped_and_mirrored_as_images_one_by_one():
    corners, mirrored = draw_moves(60, 5)
    expected = one_by_one(RAW[0], corners, mirrored)
    moved = crop_flip(DATA.train_inputs, corners, mirrored, black_pixel(DATA))
    torch.testing.assert_close(moved.double(), expected, rtol=1e-5, atol=1e-5)
    assert moved.is_contiguous(memory_format=torch.channels_last)
    centre = torch.full((60, 2), 4), torch.zeros(60, dtype=torch.bool)
    assert crop_flip(DATA.train_inputs, *centre, black_pixel(DATA)).equal(DATA.train_inputs)


def test_draws_cover_all_places_evenly():
    corners, mirrored = draw_moves(20_000, 1)
    counts = torch.bincount(9 * corners[:, 0] + corners[:, 1])
    assert len(counts) == 81
    assert ((counts - 20_000 / 81).abs() < 5 * (20_000 / 81) ** 0.5).all()
    assert mirrored.double().mean().item() == pytest.approx(0.5, abs=5 * 0.5 / 20_000**0.5)


@pytest.mark.parametrize("seeds", [[0], [0, 7]], ids=str)
def test_members_of_one_seed_see_the_same_images_each_epoch_others(seeds):
    members = [member("before_bn", "dropout", rate, seed) for seed in seeds for rate in (0.1, 0.5)]
    seen = []
    for epoch in (0, 1):
        plain = list(stacked_batches(DATA, members, 0, 16))
        batches = list(augmented_batches(iter(plain), DATA, members, epoch))
        assert len(batches) == len(plain) == 3
        for step, ((inputs, labels), (images, same_labels)) in enumerate(zip(batches, plain, strict=True)):
            assert labels.equal(same_labels)
            for index, each in enumerate(members):
                draws = draw_moves(16, each.seed, epoch, step)
                assert inputs[index].equal(crop_flip(images[index], *draws, black_pixel(DATA)))
        assert (inputs.stride(0) == 0) == (len(seeds) == 1)
        assert inputs[0].equal(inputs[1])
        assert len(seeds) == 1 or not inputs[0].equal(inputs[2])
        seen.append(batches)
    assert not any(first[0].equal(second[0]) for first, second in zip(*seen, strict=True))


def test_what_is_measured_on_is_augmented_once_and_the_test_set_never():
    measured = measured_data(DATA, replace(RECIPE, augment="crop_flip"))
    assert measured.train_inputs.equal(
        crop_flip(DATA.train_inputs, *draw_moves(60, "measure"), black_pixel(DATA))
    )
    assert measured.test_inputs is DATA.test_inputs
    assert measured_data(DATA, replace(RECIPE, augment="none")) is DATA


def test_without_noise_nothing_is_shifted_by_augmentation():
    """BN stores the variance of augmented images: against that of plain ones it would look shifted."""
    random = torch.Generator().manual_seed(1)
    bright = torch.randint(100, 256, (400, 3, 8, 8), generator=random, dtype=torch.uint8)
    labels = torch.randint(10, (400,), generator=random, dtype=torch.uint8)
    data = image_data("bright", Images(bright, labels), Images(bright[:50], labels[:50]), 10).to("cpu")
    ratios = {}
    for augment in ("crop_flip", "none"):
        recipe = {"augment": augment, "epochs": 6, "lr": 1e-6, "schedule": "constant", "batch_size": 50}
        job = small_job({"seed": [0], "none": True}, recipe=recipe)
        job = replace(job, model=ModelSettings("convnet", width=4, depth=1, norm="batch"))
        rows = run_chunk(job, job.members, data)
        ratios[augment] = [row["shift_ratio"] for row in rows["layers.csv"]]
        assert rows["members.csv"][0]["status"] == "ok"
    assert ratios["crop_flip"] == pytest.approx([1, 1, 1], abs=0.1)
    # The first layer's variance of plain images is another one.
    plain = run_first_layer(data), run_first_layer(measured_data(data, replace(RECIPE, augment="crop_flip")))
    assert plain[0] / plain[1] < 0.8


def run_first_layer(data: Data) -> float:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(2))
    return torch.nn.functional.conv2d(data.train_inputs, weight, padding=1).var().item()
