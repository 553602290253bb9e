"""The command line: `python -m experiments.run +sweep=variance_shift`, or one job without a sweep.

Order of events: compose and check every job of the command, train those of their members that the study lacks,
merge the tables, and print what came out. See `--help` for every key.
"""

import gc
import os
import shlex
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from experiments.checks import ConfigError
from experiments.command import exit_status
from experiments.settings.flags import read_flags
from experiments.settings.options import CONF

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pandas import DataFrame

    from experiments.members import Member
    from experiments.settings.plan import Plan
    from experiments.study.inventory import Inventory

# A thread of torch's that has nothing to do shall sleep. Else it looks out for work a while, and those of a kernel
# (`experiments.kernels.machine`) wait for its core. OpenMP reads this when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def hydra_main(config: DictConfig) -> None:
    """Show what a flag of Hydra's own asks for; with none of them there is nothing to show."""


def main() -> int:
    """Run the command line and return its exit status: 0, 1 when members failed, 2 for bad input."""
    # A polite kill ends the worker processes as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    return exit_status(lambda: answer(sys.argv[1:]))


def answer(arguments: list[str]) -> int:
    """Show what was asked for, or run; return the exit status."""
    typed = read_flags(arguments)
    if typed.help:
        from experiments.settings.help import help_text

        print(help_text())
        return 0
    if typed.show:
        return show(typed.show, typed.overrides)
    return run(typed.overrides, typed.multirun)


def show(flag: tuple[str, ...], overrides: list[str]) -> int:
    """Have Hydra show what a flag of its own asks for, of a command line that can run; return the exit status."""
    from experiments.settings.options import reason_of
    from experiments.settings.plan import plan_jobs

    swept = plan_jobs(overrides, multirun=True).swept_keys
    for override in overrides:
        if override.lstrip("+").split("=")[0] in swept:
            raise ConfigError(f"{override}: {flag[0]} shows one configuration; allowed is one value")
    try:
        sys.argv[1:] = [*flag, *overrides]
        os.environ["HYDRA_FULL_ERROR"] = "1"  # raise what goes wrong, instead of ending this process
        hydra_main()
    except Exception as error:  # Hydra raises whatever its parts raise
        raise ConfigError(f"{' '.join([*flag, *overrides])}: {reason_of(error)}") from error
    return 0


def run(overrides: list[str], multirun: bool) -> int:
    """Check a command line and do what it asks for; return the exit status."""
    from experiments.jobs.memory import look_for_garbage_from_here
    from experiments.settings.plan import plan_jobs
    from experiments.until import run_until_decided

    if not gc.isenabled():
        look_for_garbage_from_here()
    plan = plan_jobs(overrides, multirun)
    if until := plan.jobs[0].until:
        return run_until_decided(overrides, multirun, until, train)
    return train(plan)


def train(plan: "Plan") -> int:
    """Train the members of a plan that its study lacks, and sum up; return the exit status."""
    from experiments.jobs.job_data import check_data
    from experiments.study.admission import check_study, results_there
    from experiments.study.earlier import settle
    from experiments.study.locks import study_lock

    there = results_there(plan.folder)
    check_plan(plan)
    with study_lock(plan.folder):
        settle(plan.folder)
        if results_there(plan.folder) != there:  # another command came in between
            check_study(plan)
            check_data(plan.jobs)
        return run_plan(plan)


def check_plan(plan: "Plan") -> None:
    """Raise ConfigError unless every job may join the study, and its data is there."""
    from experiments.jobs.job_data import check_data
    from experiments.jobs.workers import start_server
    from experiments.loggers.live import check_login
    from experiments.settings.device import choose_device, choose_processes
    from experiments.study.admission import check_study

    check_study(plan)
    check_login(plan.jobs[0])
    if not plan.parallel:
        processes = [choose_processes(job.processes, choose_device(job.device).type) for job in plan.jobs]
        if max(processes) > 1:
            start_server()  # it gets ready while the data is read
    check_data(plan.jobs)


def run_plan(plan: "Plan") -> int:
    """Train the members that the study lacks and sum up; return the exit status."""
    from experiments.jobs.launch import launch_jobs
    from experiments.study.admission import check_numbers
    from experiments.study.environment import ENVIRONMENT, write_environment
    from experiments.study.files import is_there
    from experiments.study.inventory import take_inventory
    from experiments.study.part import PARTS, WORK
    from experiments.study.versions import other_versions

    inventory = take_inventory(plan.folder)
    check_numbers(plan.jobs, inventory)
    todo = {job.name: part for job in plan.jobs if (part := inventory.to_train(job)).members}
    say_what_is_there(plan, inventory, sum(len(part.members) for part in todo.values()))
    if todo or not is_there(plan.folder / ENVIRONMENT):
        # First: were it last, a command that fails in between would leave none.
        write_environment(plan.folder)
    if todo:
        if others := other_versions(plan.folder):
            print(others, file=sys.stderr)
        launch_jobs(plan, todo)
        if not is_there(plan.folder / PARTS) and not is_there(plan.folder / WORK):
            return 1  # none was begun
    return conclude(plan)


def say_what_is_there(plan: "Plan", inventory: "Inventory", to_train: int) -> None:
    """Say on stderr how many of the members that a command wants the study holds, and what of it is damaged."""
    settings = {job.setting_name for job in plan.jobs}
    for folder in inventory.damaged:
        if folder.name.rpartition("-")[0] in settings:
            print(
                f"{folder.name}: its tables are not as they were written; its members are trained again",
                file=sys.stderr,
            )
    wanted = sum(len(job.members) for job in plan.jobs)
    there = wanted - sum(len(inventory.missing(job)) for job in plan.jobs)
    if there == wanted:
        print(f"grow: all {wanted} members are there in {plan.folder}", file=sys.stderr)
    elif there:
        print(f"grow: {there} of {wanted} members are there; training {to_train}", file=sys.stderr)


def conclude(plan: "Plan") -> int:
    """Merge the study's tables, print the summary and where everything lies; return the exit status."""
    import pandas as pd

    from experiments.jobs.checkpoint import remove_work
    from experiments.loggers.live import log_study
    from experiments.study.inventory import remove_made_up, take_inventory
    from experiments.study.merge import merge_tables
    from experiments.study.summary import print_summary
    from experiments.study.tables import TABLES

    folder = plan.folder
    inventory = take_inventory(folder)
    merge_tables(inventory)
    damaged = remove_made_up(inventory)
    for part in damaged:
        print(
            f"{part.name}: left out, its tables are not as they were written; train its members again, or "
            "remove it",
            file=sys.stderr,
        )
    members = pd.read_csv(folder / "members.csv")
    if not members.empty:
        print_summary(members, pd.read_csv(folder / "layers.csv"))
    print(f"tables: {', '.join(name for name in reversed(TABLES) if (folder / name).exists())} in {folder}")
    for what, name in (("verdicts", "claims"), ("report", "report")):
        print(f"{what}: {shlex.join(['python', '-m', f'analysis.{name}', str(folder)])}")
    if any(job.saves for job in plan.jobs):
        sizes = [size for part in inventory.parts for size, _ in part.weights.values()]
        print(f"weights: {len(sizes)} networks, {sum(sizes) / 1e6:.2g} MB in {folder}/jobs/*/weights")
    log_study(plan.jobs[0])
    missing = {job.name: lost for job in plan.jobs if (lost := inventory.missing(job))}
    say_what_failed(plan, members, missing)
    remove_work(inventory)
    return 1 if missing or damaged else 0


def say_what_failed(plan: "Plan", members: "DataFrame", missing: "Mapping[str, list[Member]]") -> None:
    """Say on stderr which members are missing in the end: of failed ones why, of all others how many."""
    from experiments.members import member_of

    failed = members[members.status == "failed"]
    rows = [dict(row) for _, row in failed.iterrows()]
    reasons = {(row["job"], member_of(row)): row["reason"] for row in rows}
    for job in plan.jobs:
        lost = missing.get(job.name, [])
        told = Counter(reasons.get((job.setting_name, member)) for member in lost)
        for reason, count in told.items():
            why = "are missing; the same command trains them" if reason is None else f"failed: {reason}"
            print(f"error: {count} members of {job.setting_name} {why}", file=sys.stderr)


if __name__ == "__main__":
    # Until all is imported: searches among that take half a second. A process that calls `main` keeps its own way.
    gc.disable()
    sys.exit(main())
