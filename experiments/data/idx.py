"""Reader of gzipped IDX files, the format of MNIST and its successors."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from experiments.checks import ConfigError, regular_file

UNSIGNED_BYTES = 0x08  # the format's code for uint8, the only element type that these sets use
LARGEST = 60_000 * 28 * 28  # elements of the largest published file


def read_idx(path: Path, dimensions: int) -> Tensor:
    """Read a gzipped IDX file of bytes into a uint8 tensor of the shape it states, with so many dimensions.

    The file is two zero bytes, a byte for the element type, a byte for the number of dimensions, each size as
    a big-endian 32-bit number, then the elements, the last index running fastest. A few bytes of gzip can hold any
    number of elements: no more are read than the sizes state, and than the largest published file has.

    Raises:
        ConfigError: no readable gzip file, another type or number of dimensions, or not as long as it states.
    """
    mend = "replace it by the published file"
    try:
        if (size := regular_file(path).stat().st_size) > LARGEST:
            raise OSError(f"{size} bytes, more than the largest published file unpacked")
        with gzip.open(path) as file:
            magic, header = file.read(4), file.read(4 * dimensions)
            if magic != bytes([0, 0, UNSIGNED_BYTES, dimensions]) or len(header) < 4 * dimensions:
                kind = f"an IDX file of bytes with {dimensions} dimension(s)"
                raise ConfigError(
                    f"data.root: {path} is not {kind}: it starts with {magic.hex(' ')!r}; {mend}"
                )
            shape = struct.unpack(f">{dimensions}I", header)
            most = min(math.prod(shape), LARGEST)
            # One more than there should be: up to the end, where gzip compares its own checksum.
            content = bytearray(file.read(most + 1))
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"data.root: cannot read {path} ({error}); {mend}") from error
    if len(content) != math.prod(shape) or not content:
        count = f"{'at least ' * (len(content) > most)}{len(content)} elements"
        raise ConfigError(
            f"data.root: {path} holds {count}, its header states {shape}, at least 1 is needed; {mend}"
        )
    return torch.frombuffer(content, dtype=torch.uint8).view(shape)
