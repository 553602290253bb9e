"""Running one job: its members in chunks over all cores, and its tables."""

from dataclasses import astuple, fields
from functools import lru_cache

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from experiments.chunk import failed_rows
from experiments.config import Job
from experiments.data import Data, load_data
from experiments.device import choose_device, choose_processes
from experiments.members import Member
from experiments.networks import build_network
from experiments.stack import chunk_capacity, plan_chunks, site_shapes
from experiments.study import finish_job, start_job
from experiments.workers import run_chunks


@lru_cache(maxsize=1)
def _load(config_items: tuple) -> Data:
    return load_data(dict(config_items))


def cached_data(job: Job) -> Data:
    """Return a job's data set; jobs of one process that follow each other on the same data load it once."""
    return _load(tuple(job.config["data"].items()))


def job_chunks(job: Job, data: Data, device: torch.device, processes: int) -> list[list]:
    """Cut a job's members into chunks, at least one for each process, the largest first."""
    capacity = job.config["chunk"]
    if capacity == "auto":
        network = build_network(job.config["model"], data.sample_shape, data.classes, seed=0)
        shapes = site_shapes(network, data.train_inputs[:2].cpu())
        capacity = min(
            chunk_capacity(shapes, job.config["recipe"]["batch_size"], device),
            -(-len(job.members) // processes),
        )
    return sorted(plan_chunks(job.members, capacity), key=len, reverse=True)


def run_job(job: Job) -> list[str]:
    """Train and measure every member of a job and write its tables; return the reasons of failed chunks."""
    device = choose_device(job.config["device"])
    processes = choose_processes(job.config["processes"], device.type)
    data = cached_data(job).to(device)
    chunks = job_chunks(job, data, device, processes)
    recipe = job.config["recipe"]
    steps = recipe["epochs"] * (len(data.train_inputs) // recipe["batch_size"]) * len(job.members)
    start_job(job)
    member_rows, layer_rows, failures = [], [], []
    with _progress() as progress:
        bar = progress.add_task(job.name.rsplit("-", 1)[0], total=steps, done=0, members=len(job.members))
        for chunk, rows in run_chunks(job, chunks, data, processes, lambda n: progress.advance(bar, n)):
            if isinstance(rows, Exception):
                reason = f"{type(rows).__name__}: {' '.join(str(rows).split())}"
                failures.append(reason)
                member_rows += failed_rows(job, chunk, reason)
            else:
                member_rows += rows[0]
                layer_rows += rows[1]
            progress.update(bar, done=progress.tasks[bar].fields["done"] + len(chunk))
    order = {astuple(member): index for index, member in enumerate(job.members)}

    def position(row: dict) -> int:
        return order[tuple(row[field.name] for field in fields(Member))]

    finish_job(
        job, sorted(member_rows, key=position), sorted(layer_rows, key=position), complete=not failures
    )
    return failures


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[done]}/{task.fields[members]} members"),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
