"""Reader of gzipped IDX files, the format of MNIST and its successors."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from experiments.checks import ConfigError

UNSIGNED_BYTES = 0x08  # the format's code for uint8, the only element type that these sets use


def read_idx(path: Path, dimensions: int) -> Tensor:
    """Read a gzipped IDX file of bytes into a uint8 tensor of the shape it states, with so many dimensions.

    The file is two zero bytes, a byte for the element type, a byte for the number of dimensions, each size as
    a big-endian 32-bit number, then the elements, the last index running fastest.

    Raises:
        ConfigError: no readable gzip file, another type or number of dimensions, or not as long as it states.
    """
    try:
        with gzip.open(path) as file:
            magic, header = file.read(4), file.read(4 * dimensions)
            content = bytearray(file.read())  # up to the end, where gzip compares its own checksum
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(
            f"data.root: cannot read {path} ({error}); replace it by the published file"
        ) from error
    if magic != bytes([0, 0, UNSIGNED_BYTES, dimensions]) or len(header) < 4 * dimensions:
        kind = f"an IDX file of bytes with {dimensions} dimension(s)"
        raise ConfigError(f"data.root: {path} is not {kind}: it starts with {magic.hex(' ')!r}; replace it")
    shape = struct.unpack(f">{dimensions}I", header)
    if len(content) != math.prod(shape) or not content:
        sizes = f"{len(content)} elements, its header states {shape}, at least 1 is needed"
        raise ConfigError(f"data.root: {path} holds {sizes}; replace it by the published file")
    return torch.frombuffer(content, dtype=torch.uint8).view(shape)
