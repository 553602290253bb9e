"""How fast is a sweep? The harness against the one-at-a-time loop of tests/reference.py, in one run.

For each width of the default sweep: the whole job (every member, training and measuring, over all cores, to
written tables) against a few of its members trained and measured one after the other by plain PyTorch with its
default threads. GFLOP/s count the matrix products alone (2 operations a multiplication and addition; forward,
and backward twice that but for the input's gradient of the first layer), and the machine's own rate is the
best of several large single-precision products on all cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from experiments.config import Job
from experiments.data import Data, load_data
from experiments.device import choose_processes
from experiments.job import run_job
from experiments.networks import build_network
from experiments.plan import plan_jobs
from experiments.tables import read_table
from experiments.train import epoch_batches
from experiments.workers import run_chunks, start_server
from tests import reference

SWEEP = ["+sweep=variance_shift"]


def seconds_of(function: Callable[[], object]) -> float:
    """Return the wall-clock seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def sgemm_rate(size: int = 1536, repeats: int = 12) -> float:
    """Return the machine's best GFLOP/s over several products of square float32 matrices on all cores."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / min(seconds_of(lambda: a @ b) for _ in range(repeats)) / 1e9


def flops_per_member_step(job: Job, data: Data) -> float:
    """Return the floating-point operations of the matrix products of one member's step."""
    model, batch = job.config["model"], job.config["recipe"]["batch_size"]
    sizes = [data.sample_shape[0], *[model["width"]] * model["depth"], data.classes]
    products = [2 * batch * a * b for a, b in pairwise(sizes)]
    return 3 * sum(products) - products[0]


def loop_seconds(job: Job, data: Data, count: int) -> tuple[float, float]:
    """Return the seconds a member takes in the plain loop: training, and measuring; the mean over `count`."""
    recipe, model = job.config["recipe"], job.config["model"]
    chosen = job.members[:: max(1, len(job.members) // count)][:count]
    training = measuring = 0.0
    for member in chosen:
        network = reference.MLP(
            data.sample_shape[0], data.classes, model["width"], model["depth"],
            member.placement, member.noise, member.strength,
        )  # fmt: skip
        batches = [
            (data.train_inputs[index], data.train_labels[index])
            for epoch in range(recipe["epochs"])
            for index in epoch_batches(member.seed, epoch, len(data.train_inputs), recipe["batch_size"], _CPU)
        ]
        training += seconds_of(
            lambda network=network, batches=batches: reference.train(network, batches, recipe["lr"])
        )
        per_epoch = len(batches) // recipe["epochs"]
        passes = [(i, x, y) for i, (x, y) in enumerate(batches[: job.config["measure"]["draws"] * per_epoch])]
        train_set, test_set = (data.train_inputs, data.train_labels), (data.test_inputs, data.test_labels)

        def measure(network=network, passes=passes, train_set=train_set, test_set=test_set) -> None:
            reference.measure(network, passes, train_set, test_set)
            reference.adjust(network, train_set[0])
            reference.error_and_loss(network, *train_set)
            reference.error_and_loss(network, *test_set)

        measuring += seconds_of(measure)
    return training / count, measuring / count


_CPU = torch.device("cpu")


def bench_width(width: int, extra: list[str], loop_members: int, folder: str) -> dict:
    """Time one width of the sweep and the loop beside it."""
    overrides = [*SWEEP, *extra, f"model.width={width}", f"output={folder}", f"study=width{width}"]
    (job,) = plan_jobs(overrides, multirun=False).jobs
    data = load_data(job.config["data"])
    steps = job.config["recipe"]["epochs"] * (len(data.train_inputs) // job.config["recipe"]["batch_size"])
    loop_training, loop_measuring = loop_seconds(job, data, loop_members)
    wall = seconds_of(lambda: run_job(job))
    rows = [row for file in job.folder.glob("jobs/*/members.csv") for row in read_table(file)]
    busy, measuring = (sum(float(row[key]) for row in rows) for key in ("seconds", "seconds_measuring"))
    member_steps = steps * len(job.members)
    return {
        "width": width,
        "members": len(job.members),
        "steps": steps,
        "loop_ms_per_member_step": 1e3 * loop_training / steps,
        "loop_measuring_share": loop_measuring / loop_training,
        "sweep_ms_per_member_step": 1e3 * wall / member_steps,
        "speed_up": loop_training * len(job.members) / wall,
        "speed_up_with_measuring": (loop_training + loop_measuring) * len(job.members) / wall,
        "measuring_share_of_training": measuring / (busy - measuring),
        "gflops": flops_per_member_step(job, data) * member_steps / wall / 1e9,
        "wall_seconds": wall,
        "loop_seconds_per_member": loop_training + loop_measuring,
    }


def whole_sweep_seconds(extra: list[str], folder: str) -> float:
    """Return the seconds of the command that users type, from its start to written tables."""
    command = [sys.executable, "-m", "experiments.run", *SWEEP, *extra, f"output={folder}", "study=whole"]
    return seconds_of(lambda: subprocess.run(command, check=True, capture_output=True))


def bench_scaling(width: int, extra: list[str], folder: str, counts=(1, 4, 16, 64, 256)) -> list[dict]:
    """Time a job of 1, 4, 16 ... members of one placement: where does stacking stop paying?"""
    rows = []
    for count in counts:
        seeds = "[" + ",".join(str(seed) for seed in range(count)) + "]"
        overrides = [
            *extra, f"model.width={width}", f"output={folder}", f"study=scaling{width}x{count}",
            f"members.seed={seeds}", "members.none=false", "members.dropout.rate=[0.5]",
            "members.dropout.placement=[before_bn]", "recipe.epochs=5",
        ]  # fmt: skip
        (job,) = plan_jobs(overrides, multirun=False).jobs
        data = load_data(job.config["data"])
        steps = 5 * (len(data.train_inputs) // job.config["recipe"]["batch_size"])
        wall = seconds_of(lambda job=job: run_job(job))
        rows.append({"width": width, "members": count, "ms_per_member_step": 1e3 * wall / steps / count})
    return rows


def bench_convolutions(members: int = 4, steps: int = 8, batch: int = 128) -> dict:
    """Time a small pre-activation ResNet on images of CIFAR-10's shape, against the loop at its best setting.

    Both run the harness's network: the loop as the plain module that it is, one member at a time, on one thread
    and on all, in both memory formats; the harness as it trains, on all cores, without measuring.
    """
    overrides = ["model=preresnet", "model.width=12", "model.depth=2", f"recipe.batch_size={batch}"]
    overrides += [
        "recipe.epochs=1",
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

            loops[f"loop_{count}_threads_{str(layout).removeprefix('torch.')}_ms"] = (
                1e3 * seconds_of(train) / steps
            )
    torch.set_num_threads(threads)
    processes = choose_processes("auto", "cpu")
    chunks = [[member] for member in job.members]
    rows = []
    for _, result in run_chunks(job, chunks, data, processes, lambda _: None):
        if isinstance(result, Exception):
            raise result
        rows += result["members.csv"]
    training = sum(row["seconds"] - row["seconds_measuring"] for row in rows) / processes / members / steps
    return {
        **loops,
        "harness_ms": 1e3 * training,
        "speed_up_over_best_loop": min(loops.values()) / (1e3 * training),
    }


def hydra_jobs_per_second(jobs: int = 20) -> float:
    """Return how many jobs a second Hydra launches when each does nothing, its start-up taken off."""
    command = [sys.executable, "-m", "scripts.empty_job", "-m", "hydra.sweep.dir=."]

    def launch(count: int) -> float:
        epochs = f"recipe.epochs=range(1,{count + 1})"
        with tempfile.TemporaryDirectory() as folder:
            return seconds_of(
                lambda: subprocess.run([*command, epochs], check=True, cwd=folder, env=_ENVIRONMENT)
            )

    return jobs / (launch(jobs + 1) - launch(1))


_ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}


def print_rows(title: str, rows: list[dict]) -> None:
    """Print a list of like dicts as a table, a dict a column."""
    table = Table(title=title, title_justify="left", show_header=False)
    for key in rows[0]:
        values = [row[key] for row in rows]
        cells = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]
        table.add_row(key.replace("_", " "), *cells)
    Console().print(table)


def main() -> None:
    """Run the benchmark and print its tables, and JSON where asked."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="How fast is a sweep?")
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument(
        "--loop-members", type=int, default=4, help="members of each width that the plain loop trains"
    )
    parser.add_argument("--skip-whole", action="store_true", help="leave out the whole sweep as one command")
    parser.add_argument("--skip-scaling", action="store_true", help="leave out 1, 4, 16, 64, 256 members")
    parser.add_argument("--json", type=Path, help="write all figures to this file too")
    parser.add_argument("overrides", nargs="*", help="passed to the sweep, e.g. recipe.epochs=4")
    arguments = parser.parse_args()
    start_server()
    result: dict = {
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "sgemm_gflops": sgemm_rate(),
    }
    print(f"{result['cores']} cores, torch {result['torch']}, sgemm {result['sgemm_gflops']:.0f} GFLOP/s")
    with tempfile.TemporaryDirectory() as folder:
        widths = [
            bench_width(w, arguments.overrides, arguments.loop_members, folder) for w in arguments.widths
        ]
        for row in widths:
            row["percent_of_sgemm"] = 100 * row["gflops"] / result["sgemm_gflops"]
        result["widths"] = widths
        print_rows("The default sweep against the one-at-a-time loop", widths)
        if not arguments.skip_whole:
            whole = whole_sweep_seconds(arguments.overrides, folder)
            loop = sum(row["loop_seconds_per_member"] * row["members"] for row in widths)
            result["whole_sweep"] = {"seconds": whole, "loop_seconds": loop, "speed_up": loop / whole}
            print_rows("The whole sweep, from the command to written tables", [result["whole_sweep"]])
        if not arguments.skip_scaling:
            result["scaling"] = [
                row for w in arguments.widths for row in bench_scaling(w, arguments.overrides, folder)
            ]
            for w in arguments.widths:
                rows = [row for row in result["scaling"] if row["width"] == w]
                print_rows("Members side by side (5 epochs, with start-up and measuring)", rows)
    result["convolutions"] = bench_convolutions()
    print_rows("A small pre-activation ResNet, width 12, batch 128", [result["convolutions"]])
    result["hydra_jobs_per_second"] = hydra_jobs_per_second()
    print(f"Hydra launches {result['hydra_jobs_per_second']:.1f} empty jobs a second")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
