"""The products of a layer by `experiments.kernels` and by torch, one thread each, in GFLOP/s.

    python -m scripts.benchmark.kernels [--batch 128]

Of a convolution, torch's run on images with their channels last, its faster layout here; of the linear layers of
many members, torch's batched product. They take turns; the best of several.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from experiments.jobs.memory import keep_freed_memory
from experiments.kernels.matrices import product
from experiments.layers.convolution import StackedConvolution
from experiments.layers.layout import batch_first, batch_last
from scripts.benchmark.timing import seconds_of

# Channels of input and output, pixels a side, stride: a stage's convolutions, and the first of the next stage.
CONVOLUTIONS = [(8, 8, 32, 1), (12, 12, 32, 1), (12, 24, 32, 2), (16, 16, 32, 1), (24, 24, 16, 1)]
CONVOLUTIONS += [(32, 32, 16, 1), (48, 48, 8, 1), (64, 64, 8, 1), (160, 160, 32, 1), (320, 320, 8, 1)]
# Width of a linear layer, and members.
LINEAR = [(16, 60), (64, 60), (256, 24), (512, 8), (1024, 4), (2048, 1)]
TURNS = 15


def convolution_products(
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


def convolution_rates(channels: int, outputs: int, size: int, stride: int, batch: int) -> list[list[float]]:
    """Return GFLOP/s of the three products by our kernels, and by torch."""
    x, weight = torch.randn(batch, channels, size, size), torch.randn(outputs, channels, 3, 3)
    ours = convolution_products(
        lambda x, weight: StackedConvolution.apply(x, weight, None, stride, 1, 1),
        batch_first(batch_last(x[None])),
        weight[None],
    )
    last = torch.channels_last
    theirs = convolution_products(
        lambda x, weight: F.conv2d(x, weight, stride=stride, padding=1),
        x.contiguous(memory_format=last),
        weight.contiguous(memory_format=last),
    )
    return _rates(2 * 9 * channels * outputs * (size // stride) ** 2 * batch, ours, theirs)


def linear_rates(width: int, members: int, batch: int) -> list[list[float]]:
    """Return GFLOP/s of the three products by our kernels, and by torch."""
    weight = torch.randn(members, width, width)
    x, grad = (torch.randn(members, width, batch) for _ in range(2))
    pairs = [(weight, x), (weight.mT, grad), (grad, x.mT)]
    sides = ([partial(by, *pair) for pair in pairs] for by in (product, torch.matmul))
    return _rates(2 * members * width**2 * batch, *sides)


def _rates(operations: int, *sides: Sequence[Callable[[], object]]) -> list[list[float]]:
    """GFLOP/s of each side's calls, each of so many operations."""
    turns = [[[seconds_of(call) for call in side] for side in sides] for _ in range(TURNS)]
    seconds = [[min(times) for times in zip(*side, strict=True)] for side in zip(*turns, strict=True)]
    return [[operations / each / 1e9 for each in side] for side in seconds]


def _print_rates(title: str, rows: dict[str, list[list[float]]]) -> None:
    table = Table(title, *(f"{name}: ours, torch" for name in ("forward", "to x", "to weight")))
    for name, rates in rows.items():
        cells = zip(*rates, strict=True)
        table.add_row(name, *(", ".join(f"{rate:.0f}" for rate in cell) for cell in cells))
    Console().print(table)


def main() -> None:
    """Measure each layer and print a line of it."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.benchmark.kernels", description="GFLOP/s of kernels"
    )
    parser.add_argument("--batch", type=int, default=128)
    batch = parser.parse_args().batch
    torch.set_num_threads(1)
    keep_freed_memory()
    linear = {
        f"{width}, of {members} members": linear_rates(width, members, batch) for width, members in LINEAR
    }
    _print_rates("linear", linear)
    convolutions = {
        f"{channels} to {outputs}, {size} x {size}": convolution_rates(channels, outputs, size, stride, batch)
        for channels, outputs, size, stride in CONVOLUTIONS
    }
    _print_rates("convolution", convolutions)


if __name__ == "__main__":
    main()
