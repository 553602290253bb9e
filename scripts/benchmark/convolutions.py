"""A small pre-activation ResNet against the loop at its best setting, in turns."""

import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F

from experiments.data import Data
from experiments.jobs.workers import run_chunks
from experiments.networks import build_network
from experiments.settings.config import Job
from experiments.settings.device import choose_processes
from experiments.settings.plan import plan_jobs
from experiments.training.precision import products_in
from scripts.benchmark.timing import seconds_of

BATCH, STEPS, EPOCHS, MEMBERS = 128, 8, 5, 4
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def bench_convolutions(turns: int = 5) -> dict:
    """Time a small pre-activation ResNet on images of CIFAR-10's shape, against the loop at its best setting.

    Both run the harness's network: the loop as the plain module that it is, one member at a time, on one thread
    and on all, in both memory layouts; the harness as it trains, on all cores, without measuring, its start
    included. They take turns, because machines drift: in each turn the harness stands against the setting that was
    the fastest in it. Medians over the turns, and the smallest and largest ratio.
    """
    overrides = ["model=preresnet", "model.width=12", "model.depth=2", f"recipe.batch_size={BATCH}"]
    overrides += [f"recipe.epochs={EPOCHS}", f"members.seed=[{','.join(map(str, range(MEMBERS)))}]"]
    (job,) = plan_jobs([*overrides, "members.dropout=null"], multirun=False).jobs
    images, labels = torch.randn(BATCH * STEPS, 3, 32, 32), torch.randint(0, 10, (BATCH * STEPS,))
    data = Data("noise", images, labels, images[:BATCH], labels[:BATCH], 10).to("cpu")
    threads = torch.get_num_threads()
    loops = {
        f"loop_{count}_threads_{name}_ms": (count, loop_epoch(job, data, layout))
        for count in sorted({1, threads})
        for name, layout in LAYOUTS.items()
    }
    times: list[dict[str, float]] = []
    for _ in range(turns + 1):  # the first warms up
        turn = {}
        for name, (count, epoch) in loops.items():
            torch.set_num_threads(count)
            turn[name] = 1e3 * min(seconds_of(epoch) for _ in range(2)) / STEPS
        torch.set_num_threads(threads)
        times.append(turn | {"harness_ms": harness_milliseconds(job, data)})
    times = times[1:]
    ratios = [min(turn[name] for name in loops) / turn["harness_ms"] for turn in times]
    return {
        **{name: statistics.median(turn[name] for turn in times) for name in times[0]},
        "speed_up_over_best_loop": statistics.median(ratios),
        "smallest": min(ratios),
        "largest": max(ratios),
    }


def loop_epoch(job: Job, data: Data, layout: torch.memory_format) -> Callable[[], None]:
    """Return an epoch of plain torch's training of one member, in a memory layout of weights and images.

    It trains where the data are, in the job's batches and precision.
    """
    network = build_network(job.model, data.sample_shape, data.classes, seed=0).to(data.train_inputs.device)
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)

    def train() -> None:
        batches = (part.split(job.recipe.batch_size) for part in (data.train_inputs, data.train_labels))
        for x, y in zip(*batches, strict=True):
            optimizer.zero_grad()
            with products_in(job.recipe.precision, x.device):
                logits = network(x.contiguous(memory_format=layout))
            F.cross_entropy(logits, y).backward()
            optimizer.step()

    return train


def harness_milliseconds(job: Job, data: Data) -> float:
    """Return the milliseconds of a step of one member when all train on all cores."""
    processes = choose_processes("auto", "cpu")
    rows = []
    for _, result in run_chunks(
        job, [[member] for member in job.members], data, processes, lambda _: None, {}, {}
    ):
        if isinstance(result, Exception):
            raise result
        rows += result["members.csv"]
    training = sum(row["seconds"] - row["seconds_measuring"] for row in rows) / processes
    return 1e3 * training / (MEMBERS * EPOCHS * STEPS)
