"""Hydra's launchers: what each needs to be installed or set, and the cores that a job of theirs has to itself."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from experiments.checks import COUNT, ConfigError, Rule, not_allowed, null_or
from experiments.settings.device import available_cores

# By the name of a configuration, the package that its launcher lies in and the extra of pyproject.toml that
# brings it: Hydra's own names, and those of conf/hydra/launcher, which add resources that suit.
PACKAGES = {
    **dict.fromkeys(("joblib", "cores"), ("hydra_joblib_launcher", "joblib")),
    **dict.fromkeys(("submitit_slurm", "submitit_local", "slurm"), ("hydra_submitit_launcher", "slurm")),
    **dict.fromkeys(("ray", "ray_cluster"), ("hydra_ray_launcher", "ray")),
}


def is_parallel(launcher: Mapping[str, Any]) -> bool:
    """Say whether a launcher, given as its part of the configuration, runs jobs in processes of their own."""
    return _class(launcher) != "BasicLauncher"


def is_queued(launcher: Mapping[str, Any]) -> bool:
    """Say whether a launcher hands jobs to Slurm, which has them whoever waits for them."""
    return _class(launcher) == "SlurmLauncher"


def check_launcher(name: str) -> None:
    """Raise ConfigError when the package of a launcher is not installed."""
    package, extra = PACKAGES.get(name, (None, None))
    try:
        missing = package is not None and find_spec(f"hydra_plugins.{package}") is None
    except ModuleNotFoundError:  # no plugin of Hydra's at all
        missing = True
    if missing:
        raise ConfigError(
            f"hydra/launcher={name}: its package is not installed; pip install --editable '.[{extra}]' does that"
        )


def check_sweeper(sweeper: str) -> None:
    """Raise ConfigError for a sweeper, by its choice's name or its class, other than Hydra's basic one."""
    if sweeper.rpartition(".")[2] not in ("basic", "BasicSweeper"):
        raise ConfigError(
            f"hydra/sweeper={sweeper}: allowed is basic; a study trains every member that it is asked for, and "
            "searches for none"
        )


# What Hydra asserts of its own settings only when it launches.
ASSERTED = {
    "sweeper.max_batch_size": null_or(COUNT, "all jobs at once"),
    "verbose": Rule(
        "true, false, or names of loggers", lambda value: isinstance(value, bool | str | Sequence)
    ),
}


def check_launch(config: DictConfig, several: bool) -> dict[str, Path]:
    """Do what Hydra does before its first job, and return the folders that it will make, by their setting.

    Raises ConfigError, or what Hydra and its plugins raise of settings that they cannot use.
    """
    with open_dict(config):
        # As of a first job: what else is set may hold them.
        config.hydra.job.id, config.hydra.job.num, config.hydra.runtime.output_dir = "0", 0, "."
    hydra: Any = HydraConfig.instance()
    before, hydra.cfg = hydra.cfg, config
    try:
        settings: Any = OmegaConf.to_container(config.hydra, resolve=True)
        for key, rule in ASSERTED.items():
            if not rule.accepts(value := OmegaConf.select(config.hydra, key)):
                raise not_allowed(f"hydra.{key}", value, rule.allowed)
        context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks(config))
        if several:
            Plugins.instance().instantiate_sweeper(
                hydra_context=context, task_function=lambda _: None, config=config
            )
    finally:
        hydra.cfg = before
    sweep, subdir = Path(settings["sweep"]["dir"]), settings["sweep"]["subdir"]
    folders = (
        {"hydra.sweep.dir": sweep, "hydra.sweep.subdir": sweep / subdir}
        if several
        else {"hydra.run.dir": Path(settings["run"]["dir"])}
    )
    if settings["output_subdir"] is not None:
        folders["hydra.output_subdir"] = [*folders.values()][-1] / settings["output_subdir"]
    return folders


def launcher_overrides(launcher: Mapping[str, Any], jobs: int) -> list[str]:
    """Return what is to be set of a launcher once the number of jobs is known.

    joblib starts no more processes than there are jobs, so that few jobs have several cores each.
    """
    if _class(launcher) != "JoblibLauncher":
        return []
    return [f"hydra.launcher.n_jobs={min(_joblib_processes(launcher), jobs)}"]


def cores_of_job(launcher: Mapping[str, Any]) -> int:
    """Return how many cores of this machine one job of a launcher may keep busy.

    joblib shares them among its processes; Slurm and Ray were asked for a number of them.
    """
    cores = available_cores()
    match _class(launcher):
        case "JoblibLauncher":
            share = cores // _joblib_processes(launcher)
        case "SlurmLauncher" | "LocalLauncher":
            share = launcher.get("cpus_per_task") or 1
        case "RayLauncher":
            share = int(launcher["ray"]["remote"].get("num_cpus") or 1)
        case _:
            share = cores
    return max(1, min(cores, share))


def _class(launcher: Mapping[str, Any]) -> str:
    return str(launcher["_target_"]).rpartition(".")[2]


def _joblib_processes(launcher: Mapping[str, Any]) -> int:
    """Return how many jobs run at once: n_jobs, or counted from all cores downwards when negative."""
    count = int(launcher.get("n_jobs") or -1)
    return count if count > 0 else max(1, available_cores() + 1 + count)
