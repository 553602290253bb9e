"""The command line: `python -m experiments.run +sweep=variance_shift`, or one job without a sweep.

From Python it is `run_study("+sweep=variance_shift")`.

Order of events: compose and check every job of the command, train those of their members that the study lacks,
merge the tables, and print what came out. See `--help` for every key.
"""

import gc
import os
import shlex
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from experiments.checks import ConfigError
from experiments.command import exit_status
from experiments.settings.completion import as_of_a_file, shell_script
from experiments.settings.flags import read_flags
from experiments.settings.options import CONF, SEARCH_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pandas import DataFrame

    from analysis.tables import Study
    from experiments.members import Member
    from experiments.settings.config import Job
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


def run_study(*arguments: str, **keys: Any) -> "Study":
    """Train what a study lacks, from a notebook or a script, and return the study.

        study = run_study("+sweep=width", study="w", members={"seed": [0, 1]})
        study.members, study.layers, study.epochs  # DataFrames

    `arguments` are those of the command line, of which `-m` goes without saying; `keys` are keys of the
    configuration, sections as dicts. stderr shows how far it is. A warning says which members failed; the others
    are there, and `members.status` tells. Ctrl-C raises KeyboardInterrupt; the same call goes on from there.

    Raises ConfigError for bad input, with the line that the command prints, before anything is trained or written;
    OSError when the study cannot be written; RuntimeError when no part of it was begun.
    """
    from analysis.tables import read_study
    from experiments.loggers.live import log_study
    from experiments.settings.keywords import overrides_of
    from experiments.study.environment import standing_for
    from experiments.until import plans

    if wrong := [argument for argument in arguments if not isinstance(argument, str)]:
        raise ConfigError(f"{wrong[0]}: allowed are overrides, each a text, and keyword arguments")
    typed = read_flags([*arguments, *overrides_of(keys)])
    if typed.help or typed.show:
        raise ConfigError(
            f"{typed.show[0] if typed.show else '--help'}: a call from Python runs; leave it out"
        )
    folder = None
    for plan in plans(typed.overrides, multirun=True):
        folder = plan.folder
        with standing_for(["-m", *typed.overrides]), kept(plan):
            if not train(plan):
                raise RuntimeError(f"study={folder.name}: no part of it was begun; stderr says why")
            lost = conclude(plan)
            log_study(plan.jobs[0])
            for line in lost:
                warnings.warn(line.removeprefix("error: "), stacklevel=2)
    assert folder is not None
    return read_study(folder)


def answer(arguments: list[str]) -> int:
    """Show what was asked for, or run; return the exit status."""
    typed = read_flags(arguments)
    if typed.help:
        from experiments.settings.help import help_text
        from experiments.settings.search_path import conf_in_use

        with conf_in_use(typed.overrides) as arguments:
            print(help_text([topic for topic in arguments if not topic.startswith(f"{SEARCH_PATH}=")]))
        return 0
    if typed.show:
        return show(typed.show, typed.overrides)
    if typed.dry_run:
        return dry_run(typed.overrides, typed.multirun)
    return run(typed.overrides, typed.multirun, typed.detach)


def show(flag: tuple[str, ...], overrides: list[str]) -> int:
    """Show what a flag asks for, of a command line that can run; return the exit status.

    Hydra itself shows what is its own.
    """
    from experiments.settings.options import reason_of

    if flag[0] == "--shell-completion":
        if not flag[1].startswith("query="):
            print(shell_script(flag[1]))
            return 0
        os.environ["COMP_LINE"] = as_of_a_file(os.environ.get("COMP_LINE", ""))
        arguments = list(flag)
    else:
        from experiments.settings.configurations import configurations
        from experiments.settings.plan import plan_jobs

        plan = plan_jobs(overrides, multirun=True)
        if flag == ("--cfg", "job"):
            print(configurations(plan), end="")
            return 0
        for override in overrides:
            if override.lstrip("+").split("=")[0] in plan.swept_keys:
                raise ConfigError(f"{override}: {flag[0]} shows one configuration; allowed is one value")
        arguments = [*flag, *plan.launcher]
    try:
        sys.argv[1:] = arguments
        os.environ["HYDRA_FULL_ERROR"] = "1"  # raise what goes wrong, instead of ending this process
        hydra_main()
    except Exception as error:  # Hydra raises whatever its parts raise
        raise ConfigError(f"{' '.join([*flag, *overrides])}: {reason_of(error)}") from error
    return 0


def run(overrides: list[str], multirun: bool, detach: bool = False) -> int:
    """Check a command line, train what the study lacks, and sum up; return the exit status.

    With `detach` return as soon as Slurm has the jobs.
    """
    from experiments.jobs.memory import look_for_garbage_from_here
    from experiments.until import plans

    if not gc.isenabled():
        look_for_garbage_from_here()
    for plan in plans(overrides, multirun):
        if detach and not plan.queued:
            raise ConfigError(
                "--detach: only jobs of hydra/launcher=slurm outlive their command; leave it out"
            )
        if detach and plan.jobs[0].until:
            raise ConfigError("--detach: until=decided waits for the end of each look; leave one of them out")
        with kept(plan):
            if status := submit(plan) if detach else complete(plan):
                return status
    return 0


def complete(plan: "Plan") -> int:
    """Train what a study, which is kept to this process, lacks of a plan, and sum up; return the exit status."""
    from experiments.loggers.live import log_study

    if not train(plan):
        return 1
    lost = conclude(plan)
    print_end(plan)
    log_study(plan.jobs[0])
    for line in lost:
        print(line, file=sys.stderr)
    return 1 if lost else 0


@contextmanager
def kept(plan: "Plan") -> Iterator[None]:
    """Keep the study of a plan that can run to this process. Raises ConfigError for one that cannot."""
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
        yield


def dry_run(overrides: list[str], multirun: bool) -> int:
    """Check a command line as `run` does and print what it would train; write nothing; return the exit status."""
    from experiments.data.fetch import fetching_nothing
    from experiments.jobs.outlook import print_outlook
    from experiments.study.locks import check_free
    from experiments.until import plans

    plan = next(plans(overrides, multirun))
    with fetching_nothing():
        check_plan(plan, trains=False)
    check_free(plan.folder)
    print_outlook(plan)
    return 0


def check_plan(plan: "Plan", trains: bool = True) -> None:
    """Raise ConfigError unless every job may join the study, and its data is there.

    Worker processes get ready meanwhile where the plan is run, in this process, as `trains` says.
    """
    from experiments.jobs.job_data import cached_data, check_data
    from experiments.jobs.workers import start_server
    from experiments.loggers.live import check_login
    from experiments.settings.device import choose_device, choose_processes
    from experiments.study.admission import check_study

    cached_data.cache_clear()  # of a notebook's last call: its files may be others by now
    check_study(plan)
    check_login(plan.jobs[0])
    if trains and not plan.parallel:
        processes = [choose_processes(job.processes, choose_device(job.device).type) for job in plan.jobs]
        if max(processes) > 1:
            start_server()  # it gets ready while the data is read
    check_data(plan.jobs)


def train(plan: "Plan") -> bool:
    """Train the members that the study lacks; return whether there is anything of it."""
    from experiments.jobs.launch import launch_jobs
    from experiments.study.files import is_there
    from experiments.study.part import PARTS, WORK

    if todo := begin(plan):
        launch_jobs(plan, todo)
        return is_there(plan.folder / PARTS) or is_there(plan.folder / WORK)
    return True


def submit(plan: "Plan") -> int:
    """Hand what the study lacks to Slurm, and say so; where it lacks nothing, sum up. Return the exit status."""
    from experiments.jobs.launch import submit_jobs

    if not (todo := begin(plan)):
        return complete(plan)
    numbers = submit_jobs(plan, todo)
    print(f"with Slurm: {len(numbers)} of {len(todo)} jobs ({', '.join(numbers.values())})")
    print("the same command without --detach waits for them and merges their tables")
    return int(len(numbers) < len(todo))


def begin(plan: "Plan") -> "dict[str, Job]":
    """Say what the study holds of a plan; return the parts to train, by the names of its jobs."""
    from experiments.study.admission import check_numbers
    from experiments.study.environment import ENVIRONMENT, write_environment
    from experiments.study.files import is_there
    from experiments.study.inventory import take_inventory
    from experiments.study.versions import other_versions

    inventory = take_inventory(plan.folder)
    check_numbers(plan.jobs, inventory)
    todo = {job.name: part for job in plan.jobs if (part := inventory.to_train(job)).members}
    say_what_is_there(plan, inventory, sum(len(part.members) for part in todo.values()))
    if todo or not is_there(plan.folder / ENVIRONMENT):
        # First: were it last, a command that fails in between would leave none.
        write_environment(plan.folder)
    if todo and (others := other_versions(plan.folder)):
        print(others, file=sys.stderr)
    return todo


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


def conclude(plan: "Plan") -> list[str]:
    """Merge the study's tables; return lines that say what is missing in the end, and of failed members why."""
    import pandas as pd

    from experiments.jobs.checkpoint import remove_work
    from experiments.study.inventory import remove_made_up, take_inventory
    from experiments.study.merge import merge_tables

    inventory = take_inventory(plan.folder)
    merge_tables(inventory)
    lines = [
        f"{part.name}: left out, its tables are not as they were written; train its members again, or remove it"
        for part in remove_made_up(inventory)
    ]
    missing = {job.name: lost for job in plan.jobs if (lost := inventory.missing(job))}
    lines += what_failed(plan, pd.read_csv(plan.folder / "members.csv"), missing)
    remove_work(inventory)
    return lines


def print_end(plan: "Plan") -> None:
    """Print the summary of a study, and where everything lies."""
    import pandas as pd

    from experiments.study.inventory import take_inventory
    from experiments.study.summary import print_summary
    from experiments.study.tables import TABLES

    folder = plan.folder
    members = pd.read_csv(folder / "members.csv")
    if not members.empty:
        print_summary(members, pd.read_csv(folder / "layers.csv"))
    print(f"tables: {', '.join(str(folder / name) for name in reversed(TABLES) if (folder / name).exists())}")
    print(f"report: {shlex.join(['python', '-m', 'analysis.report', str(folder)])}")
    if any(job.saves for job in plan.jobs):
        sizes = [size for part in take_inventory(folder).parts for size, _ in part.weights.values()]
        print(f"weights: {len(sizes)} networks, {sum(sizes) / 1e6:.2g} MB in {folder}/jobs/*/weights")


def what_failed(plan: "Plan", members: "DataFrame", missing: "Mapping[str, list[Member]]") -> "Iterator[str]":
    """Yield lines that say which members are missing in the end: of failed ones why, of all others how many."""
    from experiments.members import member_of

    failed = members[members.status == "failed"]
    rows = [dict(row) for _, row in failed.iterrows()]
    reasons = {(row["job"], member_of(row)): row["reason"] for row in rows}
    for job in plan.jobs:
        lost = missing.get(job.name, [])
        told = Counter(reasons.get((job.setting_name, member)) for member in lost)
        for reason, count in told.items():
            why = "are missing; the same command trains them" if reason is None else f"failed: {reason}"
            yield f"error: {count} members of {job.setting_name} {why}"


if __name__ == "__main__":
    # Until all is imported: searches among that take half a second. A process that calls `main` keeps its own way.
    gc.disable()
    sys.exit(main())
