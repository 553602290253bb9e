"""Running one job: its members in chunks over all cores, and its tables."""

import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager

import torch

from experiments.data import Data
from experiments.jobs.checkpoint import find_checkpoints, split_by_epoch
from experiments.jobs.chunk_plan import choose_chunks, plan_chunks
from experiments.jobs.job_data import cached_data, job_site_shapes
from experiments.jobs.measured import take_measured
from experiments.jobs.memory import keep_freed_memory
from experiments.jobs.progress import JobProgress, Report
from experiments.jobs.workers import run_chunks
from experiments.loggers.chunk_log import begin_logs
from experiments.measuring.transplant import (
    COLUMNS,
    Twins,
    add_transplanted_errors,
    missing_twins,
    shifts_to_transplant,
)
from experiments.members import Member, member_of
from experiments.networks import NETWORKS
from experiments.settings.config import Job
from experiments.settings.device import choose_device, choose_processes
from experiments.study.part import ERRORS, finish_part, job_tables, part_folder, start_part
from experiments.study.rows import Row, failed_rows


def job_chunks(
    job: Job, members: Sequence[Member], data: Data, device: torch.device, processes: int
) -> list[list[Member]]:
    """Cut `members` of a job into chunks, at least one for each process, the largest first."""
    capacity = 1 if NETWORKS[job.model.name].is_foreign else job.chunk
    if capacity == "auto":
        batch = job.recipe.batch_size
        chunks = choose_chunks(members, job_site_shapes(job, data), batch, device, processes)
    else:
        chunks = plan_chunks(members, capacity)
    return sorted(chunks, key=len, reverse=True)


def run_job(job: Job, cores: int | None = None, report: Report = lambda share: None) -> None:
    """Train and measure every member of a job and make a part of the study of them.

    `cores` is how many of this machine's the job has to itself, None means all; `report` is told the share
    of the job that is done.

    An error takes down the members of its chunk, which become rows that say so; all others go on. The same command
    then trains those that did not finish. What a killed one has measured is not measured again.
    """
    keep_freed_memory()
    start_part(job)
    begin_logs(job)
    rows: dict[str, list[Row]] = {name: [] for name in job_tables(job)}
    # Another part reports them, or nobody asked for them: a member's numbers do not depend on that.
    extra = missing_twins(job)
    errors: list[str] = []
    train_samples = fingerprint = None  # not known when the data cannot be read

    def add(tables: Mapping[str, Sequence[Row]]) -> None:
        for name, of_members in tables.items():
            rows[name] += [row for row in of_members if member_of(row) not in extra]

    def fail(members: Sequence[Member], error: Exception) -> None:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        rows["members.csv"] += failed_rows(job, list(members), reason)
        errors.append("".join(traceback.format_exception(error)))

    try:
        device = choose_device(job.device)
        processes = choose_processes(job.processes, device.type, cores)
        data = cached_data(job.data).to(device)
        train_samples, fingerprint = len(data.train_labels), data.fingerprint
        members = [*job.members, *extra]
        places = find_checkpoints(job, data)
        twins: Twins = {}
        measured = take_measured(job, members, places, twins)
        add(measured)
        there = {member_of(row) for row in measured.get("members.csv", [])}
        left = [member for member in members if member not in there]
        chunks = split_by_epoch(job_chunks(job, left, data, device, processes), places)
        steps = job.recipe.epochs * (len(data.train_inputs) // job.recipe.batch_size)
        progress = JobProgress(report, len(members), steps, job.recipe.epochs)
        progress.add_steps(len(there) * steps)
        progress.add_members(len(there))
        with (
            threads(processes if device.type == "cpu" else None),
            closing(run_chunks(job, chunks, data, processes, progress.add_steps, twins, places)) as results,
        ):
            for chunk, result in results:
                if isinstance(result, Exception):
                    fail([member for member in chunk if member not in extra], result)
                else:
                    add(result)
                progress.add_members(len(chunk))
            add_transplanted_errors(job, data, twins, rows, job_site_shapes(job, data))
        if not errors and (lost := shifts_to_transplant(rows)):
            raise RuntimeError(f"{len(lost)} members have no {COLUMNS['shift']}")
    except Exception as error:  # before the first chunk, or between two
        reached = {member_of(row) for row in rows["members.csv"]}
        fail([member for member in job.members if member not in reached], error)

    for table in rows.values():
        table.sort(key=lambda row: member_of(row).order)
        if train_samples is not None:
            for row in table:
                row["train_samples"] = train_samples
    unfinished = [member_of(row) for row in rows["members.csv"] if row["status"] == "failed"]
    finish_part(job, rows, [*unfinished, *shifts_to_transplant(rows)], errors, fingerprint)
    if errors:
        reason = errors[0].strip().splitlines()[-1]
        file = part_folder(job) / ERRORS
        print(f"{job.name}: {len(errors)} errors, see {file}: {reason}", file=sys.stderr)


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Let this process, which trains a lone chunk by itself, use that many threads; None changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
