"""Launching jobs: in this process, one after the other, or wherever a launcher of Hydra's runs them.

What becomes of a job is told by its files alone.
"""

import os
import sys
from collections.abc import Mapping

from hydra import compose
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from experiments.checks import one_line
from experiments.jobs.checkpoint import remove_checkpoints
from experiments.jobs.job import run_job
from experiments.jobs.progress import jobs_progress
from experiments.loggers.live import log_job
from experiments.settings.config import Job, make_job
from experiments.settings.launchers import cores_of_job
from experiments.settings.plan import Plan
from experiments.settings.search_path import conf_in_use
from experiments.study.files import is_there
from experiments.study.inventory import take_inventory
from experiments.study.locks import part_lock
from experiments.study.part import DONE, has_ended, part_folder, work_folder


def launch_jobs(plan: Plan, parts: Mapping[str, Job]) -> None:
    """Train the parts that a study lacks of the plan's jobs, by the names of these, and wait for their end."""
    if plan.parallel:
        _launch_elsewhere(plan, parts)
        return
    for part in parts.values():
        if made := _train(part):
            log_job(made)


def _launch_elsewhere(plan: Plan, parts: Mapping[str, Job]) -> None:
    """Hand jobs to Hydra's launcher, as its sweeper would.

    Nothing is logged: many end at once, perhaps on nodes without a network.
    """
    folders = [part_folder(part) for part in parts.values()]
    with (
        conf_in_use(plan.launcher) as arguments,
        jobs_progress(len(parts), lambda: sum(map(has_ended, folders))),
    ):
        try:
            config = compose("config", arguments, return_hydra_config=True)
            hydra = HydraContext(GlobalHydra.instance().config_loader(), Callbacks(config))
            launcher = Plugins.instance().instantiate_launcher(hydra, _run_elsewhere, config)
            launcher.launch([plan.overrides[name] for name in parts], initial_job_idx=0)
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
    _train(job, cores_of_job(hydra.launcher), live=False)


def _train(job: Job, cores: int | None = None, live: bool = True) -> Job | None:
    """Train what the study lacks of a job once nobody else is at work on it; return the part that was made."""
    try:
        while (part := _lacking(job)).members:
            with part_lock(work_folder(part)):
                if _lacking(job) != part:  # whoever was at work on it has finished some
                    continue
                run_job(part, cores, live)
                if is_there(part_folder(part) / DONE):
                    remove_checkpoints(part)
                return part
    except OSError as error:  # a full disk, say; the next job may be luckier
        print(f"error: {job.name}: {one_line(error)}", file=sys.stderr)
    return None


def _lacking(job: Job) -> Job:
    return take_inventory(job.folder, job.setting_name, job.members).to_train(job)
