"""The products of a convolution by `experiments.kernels` and by torch, one thread each, in GFLOP/s.

    python -m scripts.benchmark.kernels [--batch 128]

Torch's run on images with their channels last, its faster layout here. They take turns; the best of several.
"""

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from experiments.memory import keep_freed_memory
from experiments.networks.stacked_convolution import StackedConvolution
from experiments.networks.stacked_images import batch_first, batch_last
from scripts.benchmark.timing import seconds_of

# Channels of input and output, pixels a side, stride: a stage's convolutions, and the first of the next stage.
CONVOLUTIONS = [(8, 8, 32, 1), (12, 12, 32, 1), (12, 24, 32, 2), (16, 16, 32, 1), (24, 24, 16, 1)]
CONVOLUTIONS += [(32, 32, 16, 1), (48, 48, 8, 1), (64, 64, 8, 1), (160, 160, 32, 1), (320, 320, 8, 1)]
TURNS = 15


def products(
    convolve: Callable[..., torch.Tensor], x: torch.Tensor, weight: torch.Tensor
) -> list[Callable[[], object]]:
    """Return calls of the product forward, of the gradient of x alone, and of that of the weight alone."""

    def back(*wanted: bool) -> Callable[[], object]:
        arguments = [
            a.requires_grad_(want) for a, want in zip((x.detach(), weight.detach()), wanted, strict=True)
        ]
        y = convolve(*arguments)
        grad = torch.ones_like(y)
        leaves = [argument for argument in arguments if argument.requires_grad]
        return lambda: torch.autograd.grad(y, leaves, grad, retain_graph=True)

    return [lambda: convolve(x, weight), back(True, False), back(False, True)]


def rates(channels: int, outputs: int, size: int, stride: int, batch: int) -> tuple[list[float], list[float]]:
    """Return GFLOP/s of the three products by our kernels and by torch."""
    x, weight = torch.randn(batch, channels, size, size), torch.randn(outputs, channels, 3, 3)
    ours = products(
        lambda x, weight: StackedConvolution.apply(x, weight, stride, 1, 1),
        batch_first(batch_last(x[None])),
        weight[None],
    )
    last = torch.channels_last
    theirs = products(
        lambda x, weight: F.conv2d(x, weight, stride=stride, padding=1),
        x.contiguous(memory_format=last),
        weight.contiguous(memory_format=last),
    )
    seconds = [[min(times) for times in zip(*turns, strict=True)] for turns in _take_turns(ours, theirs)]
    operations = 2 * 9 * channels * outputs * (size // stride) ** 2 * batch
    ours_rates, their_rates = ([operations / each / 1e9 for each in side] for side in seconds)
    return ours_rates, their_rates


def _take_turns(*sides: list[Callable[[], object]]) -> list[list[list[float]]]:
    """Seconds of every call of each side, turn by turn."""
    turns = [[[seconds_of(call) for call in side] for side in sides] for _ in range(TURNS)]
    return [[turn[index] for turn in turns] for index in range(len(sides))]


def main() -> None:
    """Measure each convolution and print a line of it."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.benchmark.kernels", description="GFLOP/s of kernels"
    )
    parser.add_argument("--batch", type=int, default=128)
    batch = parser.parse_args().batch
    torch.set_num_threads(1)
    keep_freed_memory()
    table = Table(
        "channels", "pixels", *(f"{name}: ours, torch" for name in ("forward", "to x", "to weight"))
    )
    for channels, outputs, size, stride in CONVOLUTIONS:
        pairs = zip(*rates(channels, outputs, size, stride, batch), strict=True)
        cells = (f"{ours:.0f}, {theirs:.0f}" for ours, theirs in pairs)
        table.add_row(f"{channels} to {outputs}", f"{size} x {size}", *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
