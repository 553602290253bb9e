"""Each width of the default sweep against the one-at-a-time loop of tests/reference.py, and its scaling.

The whole job (every member, training and measuring, over all cores, to written tables) stands against a few of
its members trained and measured one after the other by plain PyTorch with its default threads, and against
training alone in JAX (`jax_peer`), once it is compiled: as a whole, and without the start of its processes and
measuring. GFLOP/s count the matrix products alone: 2 operations a multiplication and
addition; forward, and backward twice that but for the input's gradient of the first layer.
"""

import os
from importlib.util import find_spec
from itertools import pairwise

import torch

from experiments.data import Data, load_data
from experiments.jobs.job import run_job
from experiments.settings.config import Job
from experiments.settings.plan import plan_jobs
from experiments.study.tables import read_table
from experiments.training.train import epoch_batches
from scripts.benchmark.timing import seconds_of
from tests import reference

SWEEP = ["+sweep=variance_shift"]
_CPU = torch.device("cpu")


def flops_per_member_step(job: Job, data: Data) -> float:
    """Return the floating-point operations of the matrix products of one member's step."""
    model, batch = job.model, job.recipe.batch_size
    sizes = [data.sample_shape[0], *[model.width] * model.depth, data.classes]
    products = [2 * batch * a * b for a, b in pairwise(sizes)]
    return 3 * sum(products) - products[0]


def loop_seconds(job: Job, data: Data, count: int) -> tuple[float, float]:
    """Return the seconds a member takes in the plain loop: training, and measuring; the mean over `count`."""
    recipe, model = job.recipe, job.model
    chosen = job.members[:: max(1, len(job.members) // count)][:count]
    training = measuring = 0.0
    for member in chosen:
        network = reference.MLP(
            data.sample_shape[0], data.classes, model.width, model.depth,
            member.placement, member.noise, member.strength,
        )  # fmt: skip
        batches = [
            (data.train_inputs[index], data.train_labels[index])
            for epoch in range(recipe.epochs)
            for index in epoch_batches(member.seed, epoch, len(data.train_inputs), recipe.batch_size, _CPU)
        ]
        training += seconds_of(
            lambda network=network, batches=batches: reference.train(network, batches, recipe.lr)
        )
        per_epoch = len(batches) // recipe.epochs
        passes = [(i, x, y) for i, (x, y) in enumerate(batches[: job.measure.draws * per_epoch])]
        train_set, test_set = (data.train_inputs, data.train_labels), (data.test_inputs, data.test_labels)

        def measure(network=network, passes=passes, train_set=train_set, test_set=test_set) -> None:
            reference.measure(network, passes, train_set, test_set)
            reference.adjust(network, train_set[0])
            reference.error_and_loss(network, *train_set)
            reference.error_and_loss(network, *test_set)

        measuring += seconds_of(measure)
    return training / count, measuring / count


def busy_seconds(members: list[dict]) -> tuple[float, float]:
    """Return the seconds of training and of measuring, of all processes together, of rows of members.csv."""
    busy, measuring = (sum(float(row[key]) for row in members) for key in ("seconds", "seconds_measuring"))
    return busy - measuring, measuring


def measuring_share(members: list[dict]) -> float:
    """Return the seconds that measuring took by those of training, of rows of members.csv."""
    training, measuring = busy_seconds(members)
    return measuring / training


def bench_width(width: int, extra: list[str], loop_members: int, folder: str) -> dict:
    """Time one width of the sweep, and beside it the loop and, where it is installed, JAX, which only trains."""
    overrides = [*SWEEP, *extra, f"model.width={width}", f"output={folder}", f"study=width{width}"]
    (job,) = plan_jobs(overrides, multirun=False).jobs
    data = load_data(job.data)
    steps = job.recipe.epochs * (len(data.train_inputs) // job.recipe.batch_size)
    loop_training, loop_measuring = loop_seconds(job, data, loop_members)
    wall = seconds_of(lambda: run_job(job))
    rows = [row for file in job.folder.glob("jobs/*/members.csv") for row in read_table(file)]
    member_steps = steps * len(job.members)
    training = busy_seconds(rows)[0] / (os.cpu_count() or 1)  # the processes, one a core, end together
    peer = {}
    if find_spec("jax"):
        from scripts.benchmark.jax_peer import jax_seconds

        seconds, compiling, _ = jax_seconds(job, data)
        peer = {
            "jax_ms_per_member_step": 1e3 * seconds / member_steps,
            "jax_compiling_seconds": compiling,
            "speed_up_over_jax": seconds / wall,
            "training_over_jax": seconds / training,
        }
    return {
        "width": width,
        "members": len(job.members),
        "steps": steps,
        "loop_ms_per_member_step": 1e3 * loop_training / steps,
        "loop_measuring_share": loop_measuring / loop_training,
        "sweep_ms_per_member_step": 1e3 * wall / member_steps,
        "training_ms_per_member_step": 1e3 * training / member_steps,
        "speed_up": loop_training * len(job.members) / wall,
        "speed_up_with_measuring": (loop_training + loop_measuring) * len(job.members) / wall,
        **peer,
        "measuring_share_of_training": measuring_share(rows),
        "gflops": flops_per_member_step(job, data) * member_steps / wall / 1e9,
        "wall_seconds": wall,
        "loop_seconds_per_member": loop_training + loop_measuring,
    }


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
        data = load_data(job.data)
        steps = 5 * (len(data.train_inputs) // job.recipe.batch_size)
        wall = seconds_of(lambda job=job: run_job(job))
        rows.append({"width": width, "members": count, "ms_per_member_step": 1e3 * wall / steps / count})
    return rows
