"""A small pre-activation ResNet against the loop at its best setting."""

import torch
import torch.nn.functional as F

from experiments.data import Data
from experiments.device import choose_processes
from experiments.networks import build_network
from experiments.plan import plan_jobs
from experiments.workers import run_chunks
from scripts.benchmark.timing import seconds_of


def bench_convolutions(members: int = 4, steps: int = 8, epochs: int = 3, batch: int = 128) -> dict:
    """Time a small pre-activation ResNet on images of CIFAR-10's shape, against the loop at its best setting.

    Both run the harness's network: the loop as the plain module that it is, one member at a time, on one thread
    and on all, in both memory formats, the best of `epochs` epochs; the harness as it trains, on all cores, the
    mean over `epochs`, without measuring.
    """
    overrides = ["model=preresnet", "model.width=12", "model.depth=2", f"recipe.batch_size={batch}"]
    overrides += [
        f"recipe.epochs={epochs}",
        f"members.seed=[{','.join(map(str, range(members)))}]",
        "members.dropout=null",
    ]
    (job,) = plan_jobs(overrides, multirun=False).jobs
    samples = batch * steps
    images, labels = torch.randn(samples, 3, 32, 32), torch.randint(0, 10, (samples,))
    data = Data("noise", images, labels, images[:batch], labels[:batch], 10).to("cpu")
    loops = {}
    threads = torch.get_num_threads()
    for count in sorted({1, threads}):
        torch.set_num_threads(count)
        for layout in (torch.contiguous_format, torch.channels_last):
            network = build_network(job.config["model"], data.sample_shape, data.classes, seed=0)
            for parameter in network.parameters():
                if parameter.dim() == 4:
                    parameter.data = parameter.data.contiguous(memory_format=layout)
            optimizer = torch.optim.SGD(
                network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
            )

            def train(network=network, optimizer=optimizer, layout=layout) -> None:
                for x, y in zip(images.split(batch), labels.split(batch), strict=True):
                    optimizer.zero_grad()
                    F.cross_entropy(network(x.contiguous(memory_format=layout)), y).backward()
                    optimizer.step()

            name = f"loop_{count}_threads_{str(layout).removeprefix('torch.')}_ms"
            loops[name] = 1e3 * min(seconds_of(train) for _ in range(epochs)) / steps
    torch.set_num_threads(threads)
    processes = choose_processes("auto", "cpu")
    chunks = [[member] for member in job.members]
    rows = []
    for _, result in run_chunks(job, chunks, data, processes, lambda _: None, {}):
        if isinstance(result, Exception):
            raise result
        rows += result["members.csv"]
    training = sum(row["seconds"] - row["seconds_measuring"] for row in rows) / processes
    training /= members * epochs * steps
    return {
        **loops,
        "harness_ms": 1e3 * training,
        "speed_up_over_best_loop": min(loops.values()) / (1e3 * training),
    }
