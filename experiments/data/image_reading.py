"""One image file: whether it is whole, and its pixels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.checks import regular_file

if TYPE_CHECKING:
    from PIL.Image import Image

MARGIN = 256 / 224  # the shorter side is resized to so many times the side of the crop
ENDS = (b"IEND\xaeB`\x82", b"\xff\xd9")  # the last bytes of a PNG, and of a JPEG, that is whole


def read_image(file: Path, size: int) -> np.ndarray:
    """Read an image as uint8 [size, size, 3]: its shorter side resized to 256/224 of `size`, the centre cropped.

    Raises OSError that names the file.
    """
    from PIL.Image import Resampling, fromarray

    with _opened(file) as opened:
        image = fromarray(_eight_bits(opened)) if opened.mode.startswith("I") else opened
        image = image.convert("RGB")
    width, height = _resized(image, size)
    image = image.resize((width, height), Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def check_image(file: Path, size: int) -> None:
    """Raise OSError that names the file if it is no image, broken off, damaged, or too large to be resized.

    Of a file that ends as it should only the header is read, and of a PNG the checksums: what else is wrong with
    the pixels comes out when they are read.
    """
    from PIL.Image import MAX_IMAGE_PIXELS

    with _opened(file) as image:
        width, height = _resized(image, size)
        if MAX_IMAGE_PIXELS and width * height > MAX_IMAGE_PIXELS:
            resized = f"{image.width}x{image.height} pixels, resized {width}x{height}"
            raise ValueError(f"{resized}: allowed are {MAX_IMAGE_PIXELS} in all")
        with file.open("rb") as content:
            content.seek(-max(map(len, ENDS)), os.SEEK_END)
            is_whole = content.read().endswith(ENDS)
        if is_whole:
            image.verify()
        else:
            image.load()


@contextmanager
def _opened(file: Path) -> Iterator[Image]:
    """Open an image, of which the header is read. Whatever Pillow raises until it is closed names the file."""
    from PIL.Image import open as open_image

    try:
        # Other formats may be handed to programs outside, such as Ghostscript.
        with regular_file(file).open("rb") as content, open_image(content, formats=("PNG", "JPEG")) as image:
            yield image
    except Exception as error:  # of many types
        raise OSError(f"{file} cannot be read as an image, PNG or JPEG ({error})") from error


def _resized(image: Image, size: int) -> tuple[int, int]:
    """Return the width and height to which an image is resized for a crop of `size`."""
    scale = MARGIN * size / min(image.size)
    width, height = (max(size, round(scale * side)) for side in image.size)
    return width, height


def _eight_bits(image: Image) -> np.ndarray:
    """Return a grey image of 16 bits a pixel as uint8; Pillow itself would cut its values off at 255."""
    return (np.asarray(image, dtype=np.float32) / 257).round().astype(np.uint8)
