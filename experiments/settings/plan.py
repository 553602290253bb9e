"""The jobs of a command line, composed and checked before Hydra launches the first of them."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from experiments.checks import ConfigError
from experiments.members import Member
from experiments.settings.config import Job, make_job, split_job
from experiments.settings.launchers import check_launch, check_launcher, is_parallel, launcher_overrides
from experiments.settings.options import CONF, explain, reason_of

MOST_JOBS = 100_000  # of one command, which composes each before the first runs


@dataclass(frozen=True)
class Plan:
    """What a command line will do: its jobs, all of one study, and the keys along which they differ.

    `multirun` says whether Hydra must sweep, and `added` what it must be told beyond the command line, so that
    it launches the same jobs. `parallel` says whether its launcher runs them in processes of their
    own. `folders` are those that Hydra itself will make, by the setting that names each.
    """

    jobs: list[Job]
    swept_keys: list[str]
    multirun: bool = True
    added: list[str] = field(default_factory=list)
    parallel: bool = False
    folders: dict[str, Path] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the study lies."""
        return self.jobs[0].folder


def plan_jobs(arguments: Sequence[str], multirun: bool) -> Plan:
    """Compose and check every job of a command line; reads no data and writes nothing.

    `arguments` are Hydra's overrides, `multirun` says whether -m was given. Raises ConfigError.
    """
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = [_parse(argument) for argument in arguments]
        for override in overrides:
            if override.key_or_group == "hydra/launcher":
                check_launcher(str(override.value()))
        config, mode, launcher, swept_in_file = _hydra_settings(
            [override for override in overrides if not override.is_sweep_override()]
        )
        # Hydra asks a launcher only for sweeps, be it of one job.
        several = multirun or mode == RunMode.MULTIRUN or is_parallel(launcher)
        for override in overrides:
            if override.is_sweep_override() and override.is_hydra_override():
                raise ConfigError(f"{override.input_line}: Hydra's own settings take one value")
            if override.is_sweep_override() and not several:
                raise ConfigError(
                    f"{override.input_line}: several values, several jobs: add -m or +sweep=NAME"
                )
        own = [override for override in overrides if not override.is_hydra_override()]
        swept = [_parse(argument) for argument in swept_in_file] if several else []
        sweeps = _sweeps([*swept, *own])
        if (count := math.prod(map(len, sweeps.values()))) > MOST_JOBS:
            raise ConfigError(f"{' '.join(arguments)}: {count} jobs; allowed are at most {MOST_JOBS}")
        wholes = [make_job(_compose_job(choice)) for choice in itertools.product(*sweeps.values())]
        jobs = [shard for whole in wholes for shard in split_job(whole)]
        several |= len(jobs) > 1
        with _explained([str(o.input_line) for o in overrides if o.is_hydra_override()]):
            folders = check_launch(config, several)
    added = [*_shard_sweep(wholes), *launcher_overrides(launcher, len(jobs))]
    swept_keys = [key.lstrip("+") for key, choices in sweeps.items() if len(choices) > 1]
    plan = Plan(jobs, swept_keys, several, added, is_parallel(launcher), folders)
    _check_distinct(plan)
    return plan


def _parse(argument: str) -> Override:
    # The loader serves glob(*), which sweeps over the files of a group.
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    try:
        return parser.parse_overrides([argument])[0]
    except Exception as error:  # the parser raises whatever its parts raise
        # Less the argument, a link, and the list of all that the grammar would have taken.
        reason = str(error).split("\nSee http")[0].split(" expecting ")[0]
        reason = reason.removeprefix(f"Error parsing override '{argument}'")
        raise ConfigError(
            f"{argument}: nothing that Hydra can read as KEY=VALUE ({reason.strip()})"
        ) from error


def _hydra_settings(
    overrides: Sequence[Override],
) -> tuple[DictConfig, RunMode | None, Mapping[str, Any], list[str]]:
    """Return the configuration, whether it itself asks for several jobs, its launcher, and what its sweep sets."""
    plain = [str(override.input_line) for override in overrides]
    with _explained(plain):
        config = compose("config", plain, return_hydra_config=True)
        params = OmegaConf.select(config, "hydra.sweeper.params") or {}
        launcher = {key: OmegaConf.select(config, f"hydra.launcher.{key}") for key in ("_target_", "n_jobs")}
        return config, config.hydra.mode, launcher, [f"{key}={value}" for key, value in params.items()]


def _shard_sweep(wholes: Sequence[Job]) -> list[str]:
    """Return the override by which Hydra launches every shard of every job; none when jobs stay whole."""
    numbers = sorted({job.cut.shards for job in wholes if job.cut.shard is None})
    if len(numbers) > 1:
        raise ConfigError(f"job.shards={','.join(map(str, numbers))}: allowed is one number for all jobs")
    return [f"job.shard=range(1,{numbers[0] + 1})"] if numbers and numbers[0] > 1 else []


def _sweeps(overrides: Sequence[Override]) -> dict[str, list[str]]:
    """Return for every key that is set its choices, each as `key=value`, the way Hydra's basic sweeper does.

    What comes later replaces what came before: the command line stands behind the file of the sweep.
    """
    sweeps: dict[str, list[str]] = {}
    for override in overrides:
        key = override.get_key_element()
        if override.is_sweep_override():
            sweeps[key] = [f"{key}={value}" for value in _swept_values(override)]
        else:
            sweeps[key] = [f"{key}={override.get_value_element_as_str()}"]
    return sweeps


def _swept_values(override: Override) -> list[str]:
    try:
        values = list(itertools.islice(override.sweep_string_iterator(), MOST_JOBS + 1))
    except Exception:  # an interval, which has no end of values, or a range that Python refuses
        values = []
    if not values:
        raise ConfigError(f"{override.input_line}: allowed is value1,value2 or range(start,stop), not empty")
    if len(values) > MOST_JOBS:
        raise ConfigError(f"{override.input_line}: allowed are at most {MOST_JOBS} values, a job each")
    return values


def _compose_job(overrides: Sequence[str]) -> dict[str, Any]:
    """Compose one job and resolve it to plain containers."""
    with _explained(overrides):
        config = compose("config", list(overrides))
        return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


@contextmanager
def _explained(overrides: Sequence[str]) -> Iterator[None]:
    """Turn what Hydra raises, of many types and lines, into the one line of a ConfigError."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        raise explain([_parse(override) for override in overrides], reason_of(error)) from error


def _check_distinct(plan: Plan) -> None:
    """Raise ConfigError when jobs belong to several studies, or train the same member twice."""
    swept = " and ".join(plan.swept_keys)
    if studies := {str(job.folder) for job in plan.jobs if job.folder != plan.folder}:
        raise ConfigError(f"study={plan.folder}: one command makes one study, not also {', '.join(studies)}")
    trained: dict[str, set[Member]] = {}
    for job in plan.jobs:
        others = trained.setdefault(job.setting, set())
        if not others.isdisjoint(job.members):
            raise ConfigError(
                f"{swept}: two of the {len(plan.jobs)} jobs train the same members ({job.name})"
            )
        others.update(job.members)
