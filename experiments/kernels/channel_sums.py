"""Two sums of each channel over samples and pixels, while they are added to: lane by lane, in double precision.

Images lie in memory as [pixels, channels, batch], and pixels are taken in that order. Meanwhile the sums of all
channels stay in the cache, `memory` [channels, 2, lanes], and those of the channel at hand in registers. Features,
each of which is one row, need the registers alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from experiments.kernels.language import Code, DoublePointer, Integer, Register, Vector
from experiments.kernels.machine import lanes


def no_sums(x: Tensor) -> Tensor:
    """Return the memory of the sums of x [members, ..., channels, batch], zeros: [members, channels, 2, lanes]."""
    return torch.zeros(len(x), x.shape[-2], 2, lanes(x.dtype), dtype=torch.double)


class ChannelSums:
    """The two sums of the channel at hand."""

    def __init__(self, code: Code):
        self.code, self.registers = code, (Register(code, wide=True), Register(code, wide=True))

    def clear(self) -> None:
        """Have both be zeros."""
        for register in self.registers:
            register.clear()

    def values(self) -> tuple[Vector, Vector]:
        """Return what both are now."""
        first, second = self.registers
        return first.get(), second.get()

    @contextmanager
    def over_pixels(
        self,
        memory: DoublePointer,
        batch: Integer,
        channels: Integer,
        pixels: Integer,
        start: Integer,
        stop: Integer,
    ) -> Iterator[tuple[Integer, Integer]]:
        """Write what adds each row, of a pixel and a channel in [start, stop); gives the channel and its place."""
        with self.code.loop(0, pixels) as pixel, self.code.loop(start, stop) as c:
            for register, value in zip(self.registers, sums_of(memory, c), strict=True):
                register.set(value)
            yield c, (pixel * channels + c) * batch
            for place, value in zip(_places(memory, c), self.values(), strict=True):
                memory.store(place, value)


def sums_of(memory: DoublePointer, c: Integer) -> tuple[Vector, Vector]:
    """Return the sums of channel c."""
    first, second = _places(memory, c)
    return memory.load(first), memory.load(second)


def _places(memory: DoublePointer, c: Integer) -> tuple[Integer, Integer]:
    lanes = memory.code.lanes
    return c * 2 * lanes, c * 2 * lanes + lanes
