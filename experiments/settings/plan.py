"""The jobs of a command line, composed and checked before Hydra launches the first of them."""

import itertools
import math
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.overrides_visitor import HydraOverrideVisitor
from hydra.core.override_parser.types import Override
from hydra.grammar.gen.OverrideParser import OverrideParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from experiments.checks import ConfigError
from experiments.members import Member
from experiments.settings.config import Job, make_job, split_job
from experiments.settings.launchers import (
    check_launch,
    check_launcher,
    check_sweeper,
    is_parallel,
    is_queued,
    launcher_overrides,
)
from experiments.settings.options import explain, groups, quoted, reason_of
from experiments.settings.search_path import conf_in_use
from experiments.settings.study_name import study_name

MOST_JOBS = 100_000  # of one command, which composes each before the first runs


@dataclass(frozen=True)
class Plan:
    """What a command line will do: its jobs, all of one study, and the keys along which they differ.

    Of the keys that a sweep's file sweeps all are there, also where one value was typed instead.

    `parallel` says whether a launcher of Hydra's runs the jobs in processes of their own, `queued` whether Slurm
    has them meanwhile. The overrides `launcher` set it up, and `overrides` has by a job's name those that it
    makes the job of. `folders` are those that Hydra itself would make, by the setting that names each.
    """

    jobs: list[Job]
    swept_keys: list[str]
    parallel: bool = False
    queued: bool = False
    launcher: list[str] = field(default_factory=list)
    overrides: dict[str, list[str]] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the study lies."""
        return self.jobs[0].folder


def plan_jobs(arguments: Sequence[str], multirun: bool) -> Plan:
    """Compose and check every job of a command line; reads no data and writes nothing.

    `arguments` are Hydra's overrides, `multirun` says whether -m was given. Raises ConfigError.
    """
    with conf_in_use(arguments) as arguments:
        overrides = [_parse(argument) for argument in arguments]
        for override in overrides:
            if override.key_or_group == "hydra/launcher":
                check_launcher(str(override.value()))
            if override.key_or_group == "hydra/sweeper":
                check_sweeper(str(override.value()))
        plain = [line for override in overrides if (line := _single(override)) is not None]
        settings, mode, launcher, swept_in_file = _hydra_settings(plain)
        check_sweeper(str(OmegaConf.select(settings, "hydra.sweeper._target_")))
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
        composed, choices = _composer(), list(itertools.product(*sweeps.values()))
        configs = [*composed(choices)]
        wholes = [make_job(config) for config in configs]
        swept_by_file = [override.key_or_group for override in swept]

        def of_others(others: Sequence[Override]) -> list[dict[str, Any]]:
            return [*composed(itertools.product(*_sweeps([*swept, *others]).values()))]

        named = any(override.key_or_group == "study" for override in own)
        if not named and (name := study_name(own, swept_by_file, wholes, configs, of_others)):
            choices = [(*choice, f"study={quoted(name)}") for choice in choices]
            wholes = [make_job(config) for config in composed(choices)]
            plain.append(f"study={quoted(name)}")
            settings = _hydra_settings(plain)[0]
        _check_shards(wholes)
        shards = [
            (shard, choice)
            for whole, choice in zip(wholes, choices, strict=True)
            for shard in split_job(whole)
        ]
        jobs = [shard for shard, _ in shards]
        with _explained([str(o.input_line) for o in overrides if o.is_hydra_override()]):
            folders = check_launch(settings, several or len(jobs) > 1)
    swept_keys = [
        key.lstrip("+") for key, values in sweeps.items() if len(values) > 1 or key in swept_by_file
    ]
    _check_distinct(jobs, swept_keys)
    return Plan(
        jobs,
        swept_keys,
        parallel=is_parallel(launcher),
        queued=is_queued(launcher),
        launcher=[*plain, *launcher_overrides(launcher, len(jobs))],
        overrides={
            job.name: [
                *choice,
                *sources(job),
                *([] if job.cut.shard is None else [f"job.shard={job.cut.shard}"]),
            ]
            for job, choice in shards
        },
        folders=folders,
    )


def sources(job: Job) -> list[str]:
    """Return the overrides that hold a job to the text that its targets have now, wherever it is run."""
    sections = {"data": job.data.options, "model": job.model.options}
    return [f"{key}.source={options['source']}" for key, options in sections.items() if "source" in options]


def _visit_list(self: HydraOverrideVisitor, ctx: OverrideParser.ListContainerContext) -> list[Any]:
    """Return the elements of a parsed list, in one pass; Hydra looks for each of them from the list's start."""
    return [self.visitElement(element) for element in ctx.element()]  # type: ignore[union-attr]


HydraOverrideVisitor.visitListContainer = _visit_list


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


def _single(override: Override) -> str | None:
    """Return an override of one value; of a swept group, whose keys others may set, the first; else None."""
    if not override.is_sweep_override():
        return str(override.input_line)
    is_group = override.key_or_group in groups() and not override.is_hydra_override()
    return f"{override.get_key_element()}={_swept_values(override)[0]}" if is_group else None


def _hydra_settings(overrides: list[str]) -> tuple[DictConfig, RunMode | None, Mapping[str, Any], list[str]]:
    """Return the configuration, whether it itself asks for several jobs, its launcher, and what its sweep sets."""
    with _explained(overrides):
        config = compose("config", overrides, return_hydra_config=True)
        params = OmegaConf.select(config, "hydra.sweeper.params") or {}
        launcher = {key: OmegaConf.select(config, f"hydra.launcher.{key}") for key in ("_target_", "n_jobs")}
        return config, config.hydra.mode, launcher, [f"{key}={value}" for key, value in params.items()]


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


def _composer() -> Callable[[Iterable[Sequence[str]]], Iterator[dict[str, Any]]]:
    """Return what composes each of several jobs of its overrides, and resolves it to plain containers.

    Hydra takes 60 ms to put the files of the chosen groups together: jobs that choose the same ones share what
    comes out, and set their keys in copies of it.
    """
    groups = GlobalHydra.instance().config_loader().repository  # type: ignore[attr-defined]

    @cache
    def parsed(argument: str) -> tuple[Override, bool]:
        override = _parse(argument)
        is_group = groups.group_exists(override.key_or_group) and not isinstance(override.value(), dict)
        return override, is_group

    @cache
    def of_groups(*arguments: str) -> bytes:
        return pickle.dumps(compose("config", list(arguments)))  # a fifth of the time of a deep copy

    def composed(jobs: Iterable[Sequence[str]]) -> Iterator[dict[str, Any]]:
        for arguments in jobs:
            with _explained(arguments):
                config = pickle.loads(of_groups(*(argument for argument in arguments if parsed(argument)[1])))
                keys = [parsed(argument)[0] for argument in arguments if not parsed(argument)[1]]
                ConfigLoaderImpl._apply_overrides_to_config(keys, config)
                resolved = OmegaConf.to_container(config, resolve=True)
            yield resolved  # type: ignore[misc]

    return composed


@contextmanager
def _explained(overrides: Sequence[str]) -> Iterator[None]:
    """Turn what Hydra raises, of many types and lines, into the one line of a ConfigError."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        raise explain([_parse(override) for override in overrides], reason_of(error)) from error


def _check_shards(wholes: Sequence[Job]) -> None:
    """Raise ConfigError when jobs are to be cut into different numbers of shards."""
    numbers = sorted({job.cut.shards for job in wholes if job.cut.shard is None})
    if len(numbers) > 1:
        raise ConfigError(f"job.shards={','.join(map(str, numbers))}: allowed is one number for all jobs")


def _check_distinct(jobs: Sequence[Job], swept_keys: Sequence[str]) -> None:
    """Raise ConfigError when jobs belong to several studies, or train the same member twice."""
    study, *others = dict.fromkeys(str(job.folder) for job in jobs)
    if others:
        raise ConfigError(f"study={study}: one command makes one study, not also {', '.join(others)}")
    trained: dict[str, set[Member]] = {}
    for job in jobs:
        before = trained.setdefault(job.setting, set())
        if not before.isdisjoint(job.members):
            swept = " and ".join(swept_keys)
            raise ConfigError(f"{swept}: two of the {len(jobs)} jobs train the same members ({job.name})")
        before.update(job.members)
