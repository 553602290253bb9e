"""The jobs of a command line, composed and checked before Hydra launches the first of them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.checks import ConfigError
from experiments.config import Job, check_batch_fits, make_job
from experiments.data import load_data
from experiments.device import choose_device

CONF = Path(__file__).resolve().parent.parent / "conf"


@dataclass(frozen=True)
class Plan:
    """What a command line will do: its jobs, and the keys along which they differ."""

    jobs: list[Job]
    swept_keys: list[str]


def plan_jobs(overrides: Sequence[str], multirun: bool) -> Plan:
    """Compose and check every job of a command line; load each data set once.

    `overrides` are Hydra's, `multirun` says whether -m was given. Raises ConfigError or DataError, one line.
    """
    with initialize_config_dir(str(CONF), version_base="1.3"):
        own, launch = _split_overrides(overrides)
        config = _compose([*own, *launch])
        params: dict[str, str] = {}
        if multirun or config.hydra.mode == RunMode.MULTIRUN:
            params = dict(config.hydra.sweeper.params or {})
        sweeps = _sweeps(params, own)
        jobs = [make_job(_job_config([*launch, *choice])) for choice in itertools.product(*sweeps.values())]
    names = [job.name for job in jobs]
    for job, name in zip(jobs, names, strict=True):
        if names.count(name) > 1:
            raise ConfigError("sweep", name, "each job once; two jobs of this command are the same")
    data = {}
    for job in jobs:
        choose_device(job.config["device"])
        key = str(job.config["data"])
        if key not in data:
            data[key] = load_data(job.config["data"])
        check_batch_fits(job, data[key])
    return Plan(jobs, [key for key, choices in sweeps.items() if len(choices) > 1])


def _split_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split overrides into the job's own and Hydra's (its launcher, its folders)."""
    own = [override for override in overrides if not override.lstrip("+~").startswith("hydra")]
    return own, [override for override in overrides if override not in own]


def _sweeps(params: dict[str, str], overrides: Sequence[str]) -> dict[str, list[str]]:
    """Return for every overridden key the list of its `key=value` choices, as Hydra's basic sweeper does."""
    parsed = _parse([f"{key}={value}" for key, value in params.items()] + list(overrides))
    sweeps: dict[str, list[str]] = {}
    for override in parsed:
        key = override.get_key_element()
        if override.is_sweep_override():
            if not override.is_discrete_sweep():
                raise ConfigError(key, override.input_line, "a list of values, value1,value2 or range(...)")
            sweeps[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            sweeps[key] = [f"{key}={override.get_value_element_as_str()}"]
    return sweeps


def _parse(overrides: list[str]):
    try:
        return OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise _one_line(error, overrides) from error


def _compose(overrides: list[str]):
    """Compose the configuration with the swept keys left at their defaults."""
    plain = [o.input_line for o in _parse(overrides) if not o.is_sweep_override()]
    try:
        return compose("config", plain, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise _one_line(error, plain) from error


def _job_config(overrides: list[str]) -> dict:
    """Compose one job and resolve it to plain containers."""
    try:
        config = compose("config", overrides)
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[return-value]
    except (HydraException, OmegaConfBaseException) as error:
        raise _one_line(error, overrides) from error


def _one_line(error: Exception, overrides: Sequence[str]) -> ConfigError:
    """Turn an error of Hydra's, of several lines, into one that names the override it is about."""
    text = " ".join(str(error).split())
    culprits = [o for o in overrides if o.split("=")[0].lstrip("+~") in text]
    return ConfigError("override", (culprits or list(overrides))[-1], f"what --help lists ({text})")
