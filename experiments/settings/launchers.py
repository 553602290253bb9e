"""Hydra's launchers: what each needs to be installed, and the cores that a job of theirs has to itself."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from experiments.checks import ConfigError
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
