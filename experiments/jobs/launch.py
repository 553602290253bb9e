"""Launching jobs: in this process, one after the other, or wherever a launcher of Hydra's runs them.

What becomes of a job is told by its files alone.
"""

import os
import sys
from collections.abc import Callable, Mapping
from functools import partial

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
from experiments.jobs.job_data import epoch_work
from experiments.jobs.progress import FILE, MEASURING, FileReport, Report, command_progress, watched
from experiments.jobs.slurm import queued_jobs, remember, submitting, wait_for_jobs
from experiments.loggers.live import log_job, shown_live
from experiments.measuring.transplant import missing_twins
from experiments.settings.config import Job, make_job
from experiments.settings.labels import label_jobs
from experiments.settings.launchers import cores_of_job
from experiments.settings.plan import Plan
from experiments.settings.search_path import conf_in_use
from experiments.study.files import is_there
from experiments.study.inventory import take_inventory
from experiments.study.locks import part_lock
from experiments.study.part import DONE, part_folder, work_folder


def launch_jobs(plan: Plan, parts: Mapping[str, Job]) -> None:
    """Train the parts that a study lacks of the plan's jobs, by the names of these, and wait for their end."""
    labels = label_jobs(plan.jobs, plan.swept_keys)
    labelled = {labels[name]: part for name, part in parts.items()}
    numbers = submit_jobs(plan, parts) if plan.queued else {}
    work = {
        label: member_work(part) * len([*part.members, *missing_twins(part)])
        for label, part in labelled.items()
    }
    names = {part.name: label for label, part in labelled.items()}
    with shown_live(plan.jobs[0], names), command_progress(labelled, work) as progress:
        if plan.queued:
            wait_for_jobs(labelled, numbers, progress)
        elif plan.parallel:
            with watched(labelled, progress):
                _launch_elsewhere(plan, parts)
        else:
            for label, part in labelled.items():
                if made := _train(part, None, lambda _, label=label: partial(progress.report, label)):
                    log_job(made)
                    progress.end(label)


def submit_jobs(plan: Plan, parts: Mapping[str, Job]) -> dict[str, str]:
    """Hand the jobs of parts to Slurm, but those that it has, and return their numbers by the parts' names."""
    numbers = queued_jobs(plan.folder)
    new = {name: part for name, part in parts.items() if part.name not in numbers}
    if new:
        for part in new.values():  # of an earlier job
            (work_folder(part) / FILE).unlink(missing_ok=True)
        with submitting() as submitted:
            _launch_elsewhere(plan, new)
        numbers |= dict(zip((part.name for part in new.values()), submitted, strict=False))
        remember(plan.folder, numbers)
    return {part.name: numbers[part.name] for part in parts.values() if part.name in numbers}


def member_work(part: Job) -> float:
    """Return how much there is to do for each member of a part, beside those of others."""
    return (part.recipe.epochs + MEASURING) * epoch_work(part)


def _launch_elsewhere(plan: Plan, parts: Mapping[str, Job]) -> None:
    """Hand jobs to Hydra's launcher, as its sweeper would.

    Nothing is logged: many end at once, perhaps on nodes without a network.
    """
    with conf_in_use(plan.launcher) as arguments:
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
    _train(job, cores_of_job(hydra.launcher), FileReport)


def _train(job: Job, cores: int | None, reporter: Callable[[Job], Report]) -> Job | None:
    """Train what the study lacks of a job once nobody else is at work on it; return the part that was made.

    `reporter` gives for a part what is told how far it is.
    """
    try:
        while (part := _lacking(job)).members:
            with part_lock(work_folder(part)):
                if _lacking(job) != part:  # whoever was at work on it has finished some
                    continue
                run_job(part, cores, reporter(part))
                if is_there(part_folder(part) / DONE):
                    remove_checkpoints(part)
                return part
    except OSError as error:  # a full disk, say; the next job may be luckier
        print(f"error: {job.name}: {one_line(error)}", file=sys.stderr)
    return None


def _lacking(job: Job) -> Job:
    return take_inventory(job.folder, job.setting_name, job.members).to_train(job)
