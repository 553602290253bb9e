"""Augmentation on the device: whole batches at once, from draws that members of one seed share."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from experiments.data import Data, ImageFiles
from experiments.members import Member
from experiments.seeds import generator
from experiments.settings.recipe import Recipe

PADDING = 4  # pixels on each side
PIECE = 4096  # images of a whole training set that are moved at a time


def draw_moves(count: int, *key: int | str) -> tuple[Tensor, Tensor]:
    """Draw for each of `count` images where it is cropped and whether it is mirrored.

    Corners [count, 2], the crop's first row and column in the padded image, uniform over 0 to 8; mirrored
    [count], true with probability 1/2.
    """
    random = generator(*key, "augment")
    corners = torch.randint(2 * PADDING + 1, (count, 2), generator=random)
    return corners, torch.rand(count, generator=random) < 0.5


def crop_flip(images: Tensor, corners: Tensor, mirrored: Tensor, black: Tensor) -> Tensor:
    """Pad images [n, channels, height, width] by 4, crop them to their old size, mirror some left to right.

    As in the code base that the paper builds on, the padding is of pixels of value 0, put on before
    standardisation: here, where images are standardised already, it is `black` [channels], the standardised 0.
    The result has its channels last in memory.
    """
    count, _, height, width = images.shape
    padded = black.to(images.dtype).repeat(count, height + 2 * PADDING, width + 2 * PADDING, 1)
    padded[:, PADDING:-PADDING, PADDING:-PADDING] = images.movedim(1, -1)
    rows = corners[:, :1] + torch.arange(height, device=images.device)  # [n, height]
    columns = torch.arange(width, device=images.device).expand(count, -1)
    columns = corners[:, 1:] + columns.where(~mirrored[:, None], width - 1 - columns)
    each = torch.arange(count, device=images.device)
    return padded[each[:, None, None], rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def black_pixel(data: Data) -> Tensor:
    """Return the standardised value of a pixel of value 0, [channels]."""
    assert data.pixel_mean is not None
    assert data.pixel_std is not None
    return (-data.pixel_mean / data.pixel_std).flatten()


def augmented_batches(
    batches: Iterable[tuple[Tensor, Tensor]], data: Data, members: Sequence[Member], epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the `batches` of an epoch, inputs [members, batch, channels, height, width] cropped and mirrored.

    Members of one seed get the same; of one seed alone, inputs stay one batch expanded.
    """
    black, device = black_pixel(data), data.train_inputs.device
    seeds = sorted({member.seed for member in members})
    seed_index = torch.tensor([seeds.index(member.seed) for member in members])
    for step, (inputs, labels) in enumerate(batches):
        draws = [draw_moves(inputs.shape[1], seed, epoch, step) for seed in seeds]
        if len(seeds) == 1:
            corners, mirrored = (draw.to(device) for draw in draws[0])
            yield crop_flip(inputs[0], corners, mirrored, black).expand(inputs.shape), labels
        else:
            corners, mirrored = (
                torch.stack(part)[seed_index].flatten(0, 1).to(device) for part in zip(*draws, strict=True)
            )
            yield crop_flip(inputs.flatten(0, 1), corners, mirrored, black).view(inputs.shape), labels


def measured_data(data: Data, recipe: Recipe) -> Data:
    """Return the data with training samples as networks saw them in training, which they are measured on.

    Augmented images have other moments than plain ones: against the variance of plain ones, the variance that
    BN stored would be off without any noise. One draw serves all members, so that train mode, eval mode and BN
    adjustment see the very same images.
    """
    if recipe.augment == "none":
        return data
    images, black = data.train_inputs, black_pixel(data)
    corners, mirrored = (draw.to(images.device) for draw in draw_moves(len(images), "measure"))
    if isinstance(images, ImageFiles):
        return replace(
            data,
            train_inputs=images.changed(
                lambda read, numbers: crop_flip(read, corners[numbers], mirrored[numbers], black)
            ),
        )
    pieces = zip(images.split(PIECE), corners.split(PIECE), mirrored.split(PIECE), strict=True)
    return replace(data, train_inputs=torch.cat([crop_flip(*piece, black) for piece in pieces]))
