"""Launching jobs: in this process, one after the other, or wherever a launcher of Hydra's runs them.

What becomes of a job is told by its files alone.
"""

import os
import sys
from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from experiments.checks import one_line
from experiments.jobs.job import run_job
from experiments.jobs.progress import jobs_progress
from experiments.loggers.live import log_job
from experiments.settings.config import Job, make_job
from experiments.settings.launchers import cores_of_job
from experiments.settings.options import CONF
from experiments.settings.plan import Plan
from experiments.study.finished import is_finished, is_left_alone
from experiments.study.job_folder import has_ended, job_folder, move_new_tables
from experiments.study.locks import job_lock


def launch_jobs(plan: Plan, jobs: Sequence[Job]) -> None:
    """Run some of the plan's jobs and wait for their end."""
    if plan.parallel:
        _launch_elsewhere(plan, jobs)
        return
    for job in jobs:
        if _run_unless_finished(job):
            log_job(job)


def _launch_elsewhere(plan: Plan, jobs: Sequence[Job]) -> None:
    """Hand jobs to Hydra's launcher, as its sweeper would.

    Nothing is logged: many end at once, perhaps on nodes without a network.
    """
    folders = [job_folder(job) for job in jobs]
    with (
        initialize_config_dir(str(CONF), job_name="run", version_base="1.3"),
        jobs_progress(len(jobs), lambda: sum(map(has_ended, folders))),
    ):
        try:
            config = compose("config", plan.launcher, return_hydra_config=True)
            hydra = HydraContext(GlobalHydra.instance().config_loader(), Callbacks(config))
            launcher = Plugins.instance().instantiate_launcher(hydra, _run_elsewhere, config)
            launcher.launch([plan.overrides[job.name] for job in jobs], initial_job_idx=0)
        except Exception as error:  # a node was lost, say: whatever the launcher's own library raises
            lines = str(error).strip().splitlines() or [type(error).__name__]
            reason = one_line(lines[-1])
            print(f"error: the launcher gave up: {type(error).__name__}: {reason}", file=sys.stderr)


def _run_elsewhere(config: DictConfig) -> None:
    """Run the one job that a launcher has composed in a process of its own."""
    hydra = HydraConfig.get()
    job = make_job(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
    try:
        # Relative paths start where the command was typed, wherever the launcher runs this.
        os.chdir(hydra.runtime.cwd)
    except OSError as error:
        print(f"error: {job.name}: {one_line(error)}", file=sys.stderr)
        return
    _run_unless_finished(job, cores_of_job(hydra.launcher), live=False)


def _run_unless_finished(job: Job, cores: int | None = None, live: bool = True) -> bool:
    """Run a job, unless its study holds it finished by now; say whether it ran to its end."""
    try:
        with job_lock(job_folder(job)):
            move_new_tables(job_folder(job))
            if is_finished(job) or is_left_alone(job):
                return False
            run_job(job, cores, live)
    except OSError as error:  # a full disk, say; the next job may be luckier
        print(f"error: {job.name}: {one_line(error)}", file=sys.stderr)
        return False
    return True
