"""A few raw images, and the data set that they make."""

import torch
from torch import Tensor

from experiments.data.images import Images, image_data

RANDOM = torch.Generator().manual_seed(0)


def pixels(count: int) -> Tensor:
    """Raw images [count, 3, 8, 10] of values 1 to 255: none of them is black."""
    return torch.randint(1, 256, (count, 3, 8, 10), generator=RANDOM, dtype=torch.uint8)


RAW = pixels(60), pixels(20)
LABELS = [torch.arange(len(part), dtype=torch.uint8) % 10 for part in RAW]
DATA = image_data("raw", Images(RAW[0], LABELS[0]), Images(RAW[1], LABELS[1]), 10).to("cpu")
