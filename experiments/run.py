"""The command line: `python -m experiments.run +sweep=variance_shift`, or one job without a sweep.

Order of events: compose and check every job of the command, let Hydra launch them, merge their tables, and
print what came out. See `--help` for every key.
"""

import gc
import inspect
import os
import shlex
import signal
import sys
import traceback
from contextlib import nullcontext
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from experiments.checks import ConfigError, one_line
from experiments.command import exit_status, readers_may_leave
from experiments.settings.flags import read_flags
from experiments.settings.options import CONF

if TYPE_CHECKING:
    from experiments.settings.plan import Plan

# A thread of torch's that has nothing to do shall sleep. Else it looks out for work a while, and those of a kernel
# (`experiments.kernels.machine`) wait for its core. OpenMP reads this when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def launch(config: DictConfig) -> None:
    """Run one job, as Hydra launches it, perhaps in another process; skip it when its study holds it finished.

    What becomes of it is told by its files alone.
    """
    from experiments.jobs.job import run_job
    from experiments.loggers.live import log_job
    from experiments.settings.config import make_job
    from experiments.settings.launchers import cores_of_job, is_parallel
    from experiments.study.finished import is_finished, is_left_alone
    from experiments.study.job_folder import job_folder
    from experiments.study.locks import job_lock

    # Relative paths start where the command was typed, wherever the launcher runs this.
    os.chdir(HydraConfig.get().runtime.cwd)
    launcher = HydraConfig.get().launcher
    parallel = is_parallel(launcher)
    job = make_job(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
    try:
        with readers_may_leave(), job_lock(job_folder(job)):
            if is_finished(job) or is_left_alone(job):
                return
            run_job(job, cores_of_job(launcher), live=not parallel)
    except OSError as error:  # a full disk, say; the next job may be luckier
        print(f"error: {job.name}: {one_line(error)}", file=sys.stderr)
        return
    if not parallel:  # many at once, perhaps on nodes without a network: the study's end does it
        log_job(job)


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
    sys.argv[1:] = typed.overrides
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
        hand_to_hydra([*flag, *overrides])
    except Exception as error:  # Hydra raises whatever its parts raise
        raise ConfigError(f"{' '.join([*flag, *overrides])}: {reason_of(error)}") from error
    return 0


def run(overrides: list[str], multirun: bool) -> int:
    """Check a command line, run what is not finished yet, and sum up; return the exit status."""
    from experiments.jobs.memory import look_for_garbage_from_here
    from experiments.settings.plan import plan_jobs
    from experiments.study.admission import check_study, results_there
    from experiments.study.locks import study_lock

    plan = plan_jobs(overrides, multirun)
    there = results_there(plan.folder)
    check_plan(plan)
    with study_lock(plan.folder):
        if results_there(plan.folder) != there:  # another command came in between
            check_study(plan)
        if not gc.isenabled():
            look_for_garbage_from_here()
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
    """Let Hydra launch the jobs, unless all are finished, and sum up; return the exit status."""
    from experiments.jobs.progress import jobs_progress
    from experiments.study.finished import is_left_alone, unfinished
    from experiments.study.job_folder import has_ended, is_damaged, job_folder

    left = unfinished(plan.jobs)
    if finished := len(plan.jobs) - len(left):
        print(f"{finished} of {len(plan.jobs)} jobs are finished already in {plan.folder}", file=sys.stderr)
    for job in left:
        if is_damaged(job_folder(job)):
            print(f"{job.name}: its tables are not as they were written; it runs again", file=sys.stderr)
    todo = [job for job in left if not is_left_alone(job)]
    if todo:
        folders = [job_folder(job) for job in todo]
        with (
            jobs_progress(len(todo), lambda: sum(map(has_ended, folders))) if plan.parallel else nullcontext()
        ):
            launch_jobs(plan)
        if not (plan.folder / "jobs").exists():
            return 1  # none was begun
    return conclude(plan, grown=bool(todo))


def launch_jobs(plan: "Plan") -> None:
    """Hand the jobs to Hydra's launcher and wait for them; what became of them, their files tell."""
    try:
        # Hydra reads the command line again, and finds no overrides behind a flag in their midst.
        hand_to_hydra([*(["--multirun"] if plan.multirun else []), *sys.argv[1:], *plan.added])
    except Exception as error:  # a node was lost, say: whatever the launcher's own library raises
        job = inspect.unwrap(launch).__code__
        if any(frame.f_code is job for frame, _ in traceback.walk_tb(error.__traceback__)):
            raise  # an error of ours
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = one_line(lines[-1])
        print(f"error: the launcher gave up: {type(error).__name__}: {reason}", file=sys.stderr)


def hand_to_hydra(arguments: list[str]) -> None:
    """Let Hydra do what a command line says; raises what goes wrong, where Hydra itself would end this process."""
    sys.argv[1:] = arguments
    os.environ["HYDRA_FULL_ERROR"] = "1"
    launch()


def conclude(plan: "Plan", grown: bool) -> int:
    """Merge the study's tables, print the summary and where everything lies; return the exit status."""
    import pandas as pd

    from experiments.loggers.live import log_study
    from experiments.study.environment import write_environment
    from experiments.study.finished import unfinished
    from experiments.study.job_folder import has_failed, job_folder
    from experiments.study.merge import merge_tables
    from experiments.study.summary import print_summary
    from experiments.study.tables import TABLES

    folder = plan.folder
    left_out = merge_tables(folder)
    for name in left_out:
        print(f"{name}: left out, its tables are not as they were written; run it again", file=sys.stderr)
    if grown:
        write_environment(folder)
    members = pd.read_csv(folder / "members.csv")
    if not members.empty:
        print_summary(members, pd.read_csv(folder / "layers.csv"))
    print(f"tables: {', '.join(str(folder / name) for name in reversed(TABLES) if (folder / name).exists())}")
    print(f"report: {shlex.join(['python', '-m', 'analysis.report', str(folder)])}")
    log_study(plan.jobs[0])
    left = unfinished(plan.jobs)
    failed = members[members.job.isin({job.whole_name for job in left}) & (members.status == "failed")]
    for (job, reason), rows in failed.groupby(["job", "reason"]):
        print(f"error: {len(rows)} members of {job} failed: {reason}", file=sys.stderr)
    for job in left:
        if not has_failed(job_folder(job)):
            print(f"error: {job_folder(job)} holds no tables; run it again", file=sys.stderr)
    return 1 if left or left_out else 0


if __name__ == "__main__":
    # Until all is imported: searches among that take half a second. A process that calls `main` keeps its own way.
    gc.disable()
    sys.exit(main())
