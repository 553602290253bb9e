"""Real images that are always here: pieces of the two photographs that scikit-learn ships."""

import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

STRIDE = 24  # pixels; neighbours overlap by a quarter


def pieces(count: int, size: int = 32) -> Tensor:
    """`count` squares of both photographs in a fixed random order, uint8 [count, 3, size, size]; 884 at most."""
    squares = [
        torch.tensor(photograph).movedim(-1, 0).unfold(1, size, STRIDE).unfold(2, size, STRIDE)
        for photograph in load_sample_images().images
    ]  # each [3, rows, columns, size, size]
    pixels = torch.cat([square.flatten(1, 2).movedim(1, 0) for square in squares])
    assert count <= len(pixels)
    return pixels[torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))[:count]]
