"""How long members will take, before they are trained: as others of their setting did, or as a short try does."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter, process_time
from typing import NamedTuple

from analysis.schema import typed_row
from experiments.jobs.chunk import build_stack, run_chunk, train
from experiments.jobs.job import job_chunks, threads
from experiments.jobs.job_data import cached_data, job_site_shapes
from experiments.jobs.launch import member_work
from experiments.loggers.chunk_log import ChunkLog
from experiments.measuring.transplant import Twins, add_transplanted_errors, missing_twins
from experiments.networks import NETWORKS
from experiments.settings.config import Job
from experiments.settings.device import choose_device, choose_processes
from experiments.study.inventory import Inventory
from experiments.study.tables import read_table
from experiments.training.augment import measured_data

MOST_TRIES = 4  # settings that are tried; others are taken to cost what the one nearest in work does
BUDGET = 4.0  # seconds that these take together, roughly
SLOW = 10.0  # seconds of one step and its measuring after which nothing more is tried
THERE, TRIED, SCALED = "as those there took", "tried here", "from a try of another job"


class Estimate(NamedTuple):
    """Seconds of one core, or of a GPU, for each member of a job, and where they are from."""

    seconds: float
    source: str


def estimate_jobs(parts: Sequence[Job], inventory: Inventory) -> dict[str, Estimate]:
    """Return the estimate of each setting that some of `parts` are of, by its name."""
    settings = {part.setting_name: part for part in parts}
    found = {
        name: Estimate(sum(seconds) / len(seconds), THERE)
        for name, part in settings.items()
        if (seconds := _seconds_there(part, inventory))
    }
    work = {name: member_work(part) for name, part in settings.items()}
    unknown = sorted((name for name in settings if name not in found), key=lambda name: work[name])
    count = min(MOST_TRIES, len(unknown))
    chosen = {unknown[place * (len(unknown) - 1) // max(1, count - 1)] for place in range(count)}
    tried: dict[str, float] = {}
    for name in sorted(
        chosen, key=lambda name: str(settings[name].data.section)
    ):  # each data set is read once
        tried[name] = _try_members(settings[name], BUDGET / count)
        found[name] = Estimate(tried[name], TRIED)
    for name in (name for name in unknown if name not in tried):
        near = min(tried, key=lambda other: max(work[other] / work[name], work[name] / work[other]))
        found[name] = Estimate(tried[near] * work[name] / work[near], SCALED)
    return found


def _seconds_there(part: Job, inventory: Inventory) -> list[float]:
    """Return what the members took that a study holds of a part's setting."""
    rows = [
        typed_row(row)
        for other in inventory.parts
        if other.setting == part.setting_name
        for row in read_table(other.folder / "members.csv")
    ]
    return [float(row["seconds"]) for row in rows if row["status"] == "ok"]


def _try_members(job: Job, budget: float) -> float:
    """Return the seconds of a member of a job, by training and measuring one of its chunks on a part of the data.

    On a CPU what counts is this process's own time, whatever else keeps the machine busy.
    """
    device, data = choose_device(job.device), cached_data(job.data)
    shapes, processes = job_site_shapes(job, data), choose_processes(job.processes, device.type)
    chunks = job_chunks(job, [*job.members, *missing_twins(job)], data, device, processes)
    chunk = max(chunks, key=lambda chunk: (any(member.noise != "none" for member in chunk), len(chunk)))
    if not NETWORKS[job.model.name].is_foreign:  # such a one is never beside another
        chunk = [*chunk, *missing_twins(replace(job, members=chunk))]
    batch, epochs = job.recipe.batch_size, job.recipe.epochs
    recipe = replace(job.recipe, epochs=1, checkpoint_every=None)
    # It writes nothing.
    short = replace(job, members=chunk, recipe=recipe, logger=None, spec={**job.spec, "save": False})
    clock = process_time if device.type == "cpu" else perf_counter

    def training(steps: int) -> float:
        some, begin = data.first(steps * batch).to(device), clock()
        stack, noise = build_stack(short, chunk, some)
        measured, log = measured_data(some, short.recipe), ChunkLog(short, chunk)
        train(short, chunk, stack, noise, some, measured, lambda _: None, {}, log)
        return clock() - begin

    def measuring(steps: int) -> float:
        trained: list[float] = []
        twins: Twins = {}
        some = data.first(steps * batch).to(device)
        rows = run_chunk(short, chunk, some, lambda _: trained.append(clock()), twins)
        add_transplanted_errors(short, some, twins, rows, shapes)
        return clock() - trained[-1]

    most = len(data.train_inputs) // batch
    with threads(1 if device.type == "cpu" else None):
        training(1)  # slow, as kernels are compiled
        seconds = extrapolate(_tries(training, most, budget / 2), most * epochs)
        seconds += extrapolate(_tries(measuring, most, budget / 2), most)
    return seconds / len(chunk)


def _tries(seconds: Callable[[int], float], most: int, budget: float) -> list[tuple[int, float]]:
    """Return what ever more steps, at most `most`, took while a budget lasts: two of them, if that is quick."""
    tries = [(1, seconds(1))]
    while tries[-1][0] < most and tries[-1][1] < (budget / 4 if len(tries) > 1 else SLOW):
        steps = min(most, tries[-1][0] * 4)
        tries.append((steps, seconds(steps)))
    return tries


def extrapolate(tries: Sequence[tuple[int, float]], steps: int) -> float:
    """Return what so many steps take, by what fewer took: each takes the same, beside what all take once."""
    (before, old), (last, new) = (0, 0.0), tries[0]
    if len(tries) > 1:
        (before, old), (last, new) = tries[-2:]
    slope = min(max(new - old, 0.0) / (last - before), new / last)
    return new + slope * (steps - last)
