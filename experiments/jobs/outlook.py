"""`--dry-run`: what a command would train and how long that takes, written nowhere."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from experiments.jobs.estimate import Estimate, estimate_jobs
from experiments.jobs.job_data import cached_data
from experiments.jobs.slurm import queued_jobs
from experiments.measuring.transplant import missing_twins
from experiments.networks import NETWORKS, build_network
from experiments.networks.custom import site_lines
from experiments.settings.config import Job
from experiments.settings.device import available_cores, choose_device, choose_processes
from experiments.settings.labels import label_jobs
from experiments.settings.plan import Plan
from experiments.study.admission import check_numbers
from experiments.study.earlier import settle
from experiments.study.files import listed
from experiments.study.inventory import Inventory, take_inventory
from experiments.study.part import PARTS, has_ended, read_part


def print_outlook(plan: Plan) -> None:
    """Print what there is to say of each job of a checked command, and of all; raise ConfigError as a run does."""
    inventory = _inventory(plan.folder)
    check_numbers(plan.jobs, inventory)
    names = label_jobs(plan.jobs, plan.swept_keys)
    parts = {names[job.name]: inventory.to_train(job) for job in plan.jobs}
    todo = {label: part for label, part in parts.items() if part.members}
    estimates = estimate_jobs(list(todo.values()), inventory)
    seconds = {
        label: estimates[part.setting_name].seconds * len(_trained(part)) for label, part in todo.items()
    }
    for number, job in enumerate(plan.jobs, start=1):
        label = names[job.name]
        print(
            f"[{number}/{len(plan.jobs)}] {label}: "
            + "\n    ".join(_job_lines(job, parts[label], estimates.get(job.setting_name)))
        )
    wanted, left = (sum(len(job.members) for job in jobs) for jobs in (plan.jobs, parts.values()))
    print(f"in all: {len(plan.jobs)} jobs, {_counted(wanted, left)} in {plan.folder}")
    if todo:
        print("\n".join(_all_lines(plan, todo, seconds)))


def _job_lines(job: Job, part: Job, estimate: Estimate | None) -> Iterator[str]:
    """Yield what is said of one job, of which `part` is to be trained: whatever there is to know beforehand."""
    line = _counted(len(job.members), len(part.members))
    if estimate and part.members:
        extra = len(_trained(part)) - len(part.members)
        beside = f" and {extra} noise-free beside them" if extra else ""
        seconds = estimate.seconds * len(_trained(part))
        line += f"{beside}; about {_number(seconds)} {_unit(part)} seconds ({estimate.source})"
    yield line
    if NETWORKS[job.model.name].is_foreign:
        data = cached_data(job.data)
        network = build_network(job.model, data.sample_shape, data.classes, seed=0)
        yield from site_lines(network, data.train_inputs[:2])


def _all_lines(plan: Plan, todo: Mapping[str, Job], seconds: Mapping[str, float]) -> Iterator[str]:
    """Yield what is said of all jobs: what they take, and who runs them."""
    total, longest, any_job = (
        sum(seconds.values()),
        max(seconds, key=lambda label: seconds[label]),
        plan.jobs[0],
    )
    yield f"about {_number(total)} {_unit(any_job)} seconds, give or take a factor of 3"
    if plan.parallel:
        launcher = next(override for override in plan.launcher if override.startswith("hydra/launcher"))
        queued = queued_jobs(plan.folder) if plan.queued else {}
        there = sum(part.name in queued for part in todo.values())
        already = f", and {there} are in its queue already" if there else ""
        yield (
            f"{launcher} is handed {len(todo) - there} jobs{already}; "
            f"the longest, {longest}, takes about {_number(seconds[longest])}"
        )
    elif (processes := choose_processes(any_job.processes, choose_device(any_job.device).type)) > 1:
        cores = min(processes, available_cores())
        yield f"about {_number(total / cores)} seconds on {cores} cores that are free, and 3 to start"


def _trained(part: Job) -> list:
    """Return the members that a part trains: its own, and noise-free twins that only serve them."""
    return [*part.members, *missing_twins(part)]


def _counted(wanted: int, left: int) -> str:
    return f"{wanted} members, {wanted - left} there, {left} to train"


def _number(seconds: float) -> str:
    """Return seconds with two digits that count: no estimate is worth more."""
    return f"{float(f'{seconds:.2g}'):,.0f}" if seconds >= 10 else f"{seconds:.1g}"


def _unit(job: Job) -> str:
    return "core" if choose_device(job.device).type == "cpu" else "GPU"


def _inventory(study: Path) -> Inventory:
    """Return what a study holds; of one of an earlier version, what it will hold once its parts are settled."""
    folders = [folder for folder in listed(study / PARTS) if has_ended(folder)]
    if all(map(read_part, folders)):
        return take_inventory(study)
    with TemporaryDirectory() as scratch:
        copied = Path(scratch, study.name)
        for folder in folders:
            shutil.copytree(folder, copied / PARTS / folder.name)
        settle(copied)
        return replace(take_inventory(copied), study=study)
