"""Images that stay on disk until they are looked at, for sets larger than memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .image_reading import check_image, read_image

# Of ImageNet's training images, in [0, 1]: what networks for it are standardised by, by custom.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageFiles:
    """Stands for a float tensor [N, 3, size, size], of which it has what the harness uses.

    An image is read when it is indexed: as RGB, the shorter side resized to 256/224 of `size`, the centre cropped,
    each channel standardised by ImageNet's mean and standard deviation. Files are read by as many threads as
    torch uses.
    """

    dtype = torch.float32

    def __init__(self, files: Sequence[Path], size: int):
        self.files, self.size = list(files), size
        self.device = torch.device("cpu")
        self.change: Callable[[Tensor, Tensor], Tensor] | None = None

    @property
    def shape(self) -> torch.Size:
        """The shape of the tensor that this stands for."""
        return torch.Size((len(self.files), 3, self.size, self.size))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """Read the images of a slice, or of a tensor [...] of numbers: [..., 3, size, size], channels last."""
        numbers = torch.arange(len(self))[index] if isinstance(index, slice) else index
        flat = numbers.flatten().cpu()
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            files = [self.files[number] for number in flat.tolist()]
            pixels = list(pool.map(partial(read_image, size=self.size), files))
        images = torch.from_numpy(np.stack(pixels)).to(self.device).movedim(-1, 1).float()
        mean, std = (torch.tensor(values, device=self.device)[:, None, None] for values in (MEAN, STD))
        images = (images / 255 - mean) / std
        if self.change is not None:
            images = self.change(images, flat.to(self.device))
        return images.unflatten(0, numbers.shape) if numbers.dim() else images[0]

    def faults(self) -> list[str]:
        """Return a sentence for each file that `check_image` refuses, in the order of their names."""
        from PIL.Image import DecompressionBombWarning

        threads = torch.get_num_threads()
        parts = [self.files[start::threads] for start in range(threads)]
        with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
            warnings.simplefilter("error", DecompressionBombWarning)
            return sorted(fault for faults in pool.map(self._faults, parts) for fault in faults)

    def numpy(self) -> ImageFiles:
        """Give what a worker process is handed: this, which is small."""
        return self

    def select(self, numbers: Tensor) -> ImageFiles:
        """Give some of the images, still on disk."""
        some = copy(self)
        some.files = [self.files[number] for number in numbers.tolist()]
        return some

    def to(self, device: torch.device | str) -> ImageFiles:
        """Give the same images, to be read onto `device`."""
        same = copy(self)
        same.device = torch.device(device)
        return same

    def changed(self, change: Callable[[Tensor, Tensor], Tensor]) -> ImageFiles:
        """Give the same images, changed by `change(images, numbers)` whenever they are read."""
        same = copy(self)
        same.change = change
        return same

    def split(self, size: int) -> Iterator[Tensor]:
        """Read the images in order, so many at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def tensor_split(self, pieces: int) -> Iterator[Tensor]:
        """Read the images in order, in that many pieces of like size."""
        return (self[numbers] for numbers in torch.arange(len(self)).tensor_split(pieces))

    def _faults(self, files: Sequence[Path]) -> list[str]:
        faults = []
        for file in files:
            try:
                check_image(file, self.size)
            except OSError as error:
                faults.append(str(error))
        return faults
