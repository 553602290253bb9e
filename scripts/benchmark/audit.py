"""What the audit costs beside the three passes over the data that it is made of: time, and peak memory.

    python -m scripts.benchmark.audit [--threads 1] [--batches 16] [--repeats 5] [--processor-time] [name ...]
    python -m scripts.benchmark.audit --memory

A pass is `model(batch)` for every batch, without gradients, in one of the modes in which the audit runs it (train,
train without noise, eval), with nothing looked at and nothing stored. Audit and passes take turns, and the median
of their ratios is shown. Networks of others need the extra `zoo`.
"""

import argparse
import functools
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from analysis.audit import audit
from analysis.audit.modes import Modes
from analysis.audit.preserve import unchanged
from scripts.benchmark.timing import seconds_of
from tests.analysis.audit import zoo

IMAGE = (3, 32, 32)
Clock = Callable[[], float]


def mlp(width: int) -> nn.Module:
    """Six blocks with dropout before BN, as in analysis/audit/README.md, on 64 features."""
    sizes = [64, *[width] * 6]
    blocks = [
        nn.Sequential(nn.Linear(i, o), nn.Dropout(0.5), nn.BatchNorm1d(o), nn.ReLU())
        for i, o in itertools.pairwise(sizes)
    ]
    return nn.Sequential(*blocks, nn.Linear(width, 10))


def convnet(width: int) -> nn.Module:
    """Six convolutions with BN on 32 x 32 and 16 x 16 pixels, dropout in the middle."""
    sizes = [3, *[width] * 6]
    layers: list[nn.Module] = []
    for index, (i, o) in enumerate(itertools.pairwise(sizes)):
        layers += [nn.Conv2d(i, o, 3, 2 if index == 2 else 1, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]
        layers += [nn.Dropout(0.3)] if index == 3 else []
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


class Residual(nn.Module):
    """A pre-activation block with dropout between its convolutions, as in a Wide ResNet."""

    def __init__(self, i: int, o: int):
        super().__init__()
        self.branch = nn.Sequential(
            *(nn.BatchNorm2d(i), nn.ReLU(), nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o)),
            *(nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(o, o, 3, padding=1, bias=False)),
        )
        self.shortcut = nn.Identity() if i == o else nn.Conv2d(i, o, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return shortcut + branch."""
        return self.shortcut(x) + self.branch(x)


def resnet() -> nn.Module:
    """Six residual blocks of 16 and 32 channels."""
    blocks = [Residual(16, 16) for _ in range(3)] + [nn.MaxPool2d(2), Residual(16, 32)]
    blocks += [Residual(32, 32) for _ in range(2)]
    head = [nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)]
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), *blocks, *head)


def of_others(name: str, planted: bool = True) -> nn.Module:
    """A network of the zoo; planted: with dropout before the BN layer in its middle, so that it takes 3 passes."""
    model = zoo.NETWORKS[name][2]()
    if planted:
        norms = [key for key, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
        norms += [key for key, module in model.named_modules() if isinstance(module, nn.BatchNorm1d)]
        parent, _, child = norms[len(norms) // 2].rpartition(".")
        block = model.get_submodule(parent)
        setattr(block, child, nn.Sequential(nn.Dropout(0.3), getattr(block, child)))
    return model


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {  # how it is built, shape of a sample
    "convolutions, 32 channels": (lambda: convnet(32), IMAGE),
    "convolutions, 128 channels": (lambda: convnet(128), IMAGE),
    "residual, 16 and 32 channels": (resnet, IMAGE),
    "MLP, width 128": (lambda: mlp(128), (64,)),
    "MLP, width 512": (lambda: mlp(512), (64,)),
    "MobileNetV2 x 0.25, as it is": (lambda: of_others("hf_mobilenet_v2", planted=False), IMAGE),
    **{
        f"{name} of the zoo, with dropout": (functools.partial(of_others, name), zoo.NETWORKS[name][1])
        for name in ("hf_mobilenet_v2", "resnet", "densenet", "hf_regnet", "efficientnet", "tabnet")
    },
}


def inputs(shape: tuple[int, ...], count: int, batch: int = 64) -> Iterator[Tensor]:
    """Batches of standard normal inputs."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        yield torch.randn(batch, *shape, generator=generator)


@torch.no_grad()
def seconds_of_passes(model: nn.Module, batches: list[Tensor], clock: Clock) -> dict[str, float]:
    """Seconds of a pass over all batches in each mode."""
    seconds = {}
    with unchanged(model):
        modes = Modes(model)
        for mode in ("train", "plain", "eval"):
            modes.set(mode)
            seconds[mode] = seconds_of(lambda: [model(x) for x in batches], clock)
    return seconds


def bench_audit(name: str, count: int, repeats: int, clock: Clock) -> dict[str, float | str]:
    """Time one network; the first turn warms up and does not count."""
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    model, batches = build(), list(inputs(shape, count))
    ratios, without = [], []
    for turn in range(repeats + 1):
        passes = seconds_of_passes(model, batches, clock)
        audited = seconds_of(lambda: audit(model, batches), clock)
        if turn:
            ratios.append(audited / sum(passes.values()))
            without.append(audited / (passes["train"] + passes["eval"]))
    return {
        "network": name,
        "ms_a_pass_and_batch": 1e3 * sum(passes.values()) / 3 / count,
        "percent_over_3_passes": 100 * (statistics.median(ratios) - 1),
        "from": 100 * (min(ratios) - 1),
        "to": 100 * (max(ratios) - 1),
        "percent_over_2_passes": 100 * (statistics.median(without) - 1),
    }


def peak_memory(name: str, count: int) -> float:
    """MiB that a process takes at most that audits so many batches, made as they are read."""
    code = (
        "import resource, sys; from scripts.benchmark.audit import *; build, shape = NETWORKS[sys.argv[1]]; "
        "torch.set_num_threads(1); audit(build(), inputs(shape, int(sys.argv[2]))); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    command = [sys.executable, "-c", code, name, str(count)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    """Run the benchmark and print a line per network."""
    parser = argparse.ArgumentParser(prog="python -m scripts.benchmark.audit", description="The audit's cost")
    parser.add_argument("names", nargs="*", help="networks whose names contain one of these; all by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", type=int, default=16, help="of 64 samples")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--processor-time", action="store_true", help="on a machine that does other things too"
    )
    parser.add_argument("--memory", action="store_true", help="peak memory at 16, 64 and 256 batches instead")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    chosen = [
        name for name in NETWORKS if not arguments.names or any(part in name for part in arguments.names)
    ]
    for name in chosen:
        if arguments.memory:
            sizes = {count: peak_memory(name, count) for count in (16, 64, 256)}
            print(name, *(f"{count} batches {size:.0f} MiB" for count, size in sizes.items()), sep=", ")
            continue
        clock = time.process_time if arguments.processor_time else time.perf_counter
        row = bench_audit(name, arguments.batches, arguments.repeats, clock)
        print(
            ", ".join(f"{k.replace('_', ' ')} {v:.1f}" if k != "network" else str(v) for k, v in row.items()),
            flush=True,
        )


if __name__ == "__main__":
    main()
