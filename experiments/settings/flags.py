"""The flags of the command line: which there are, and the line that answers all others."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from experiments.checks import ConfigError, not_allowed, one_of
from experiments.settings.completion import COMPLETES, SHELLS
from experiments.settings.options import SEARCH_PATH, quoted

# Hydra's own flags that show something and run nothing, and what each can show.
SHOWS = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "--hydra-help": (),
    "--version": (),
    "--shell-completion": tuple(f"{what}={shell}" for what in COMPLETES for shell in SHELLS),
}
KNOWN = (
    "--cfg -c --config-dir -cd --detach --dry-run --help -h --hydra-help --info -i --multirun -m "
    "--shell-completion -sc --version"
)


@dataclass(frozen=True)
class CommandLine:
    """A command line: its overrides, its switches, and the flag, with its value, that shows.

    With `help`, the overrides are topics. `--config-dir` is the override of Hydra's search path that it means.
    """

    overrides: list[str]
    multirun: bool = False
    help: bool = False
    show: tuple[str, ...] = ()
    dry_run: bool = False
    detach: bool = False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; known are {KNOWN}")


def read_flags(arguments: Sequence[str]) -> CommandLine:
    """Return what the arguments of the command line are. Raises ConfigError for flags that make no sense."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--detach", action="store_true")
    parser.add_argument("--cfg", "-c", nargs="?", const="")
    parser.add_argument("--info", "-i", nargs="?", const="all")
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("--shell-completion", "-sc", nargs="?", const="")
    parser.add_argument("--config-dir", "-cd", action="append", default=[])
    parser.add_argument("overrides", nargs="*")
    options, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        raise ConfigError(f"{unknown[0].split('=')[0]}: no such flag here; known are {KNOWN}")
    shown = [
        (flag, value)
        for flag in SHOWS
        if (value := getattr(options, flag.strip("-").replace("-", "_"))) not in (None, False)
    ]
    for flag, value in shown:
        if SHOWS[flag] and not (rule := one_of(*SHOWS[flag])).accepts(value):
            raise not_allowed(flag, value, rule.allowed)
        others = [other for other, _ in shown if other != flag]
        switches = {"--dry-run": options.dry_run, "--detach": options.detach}
        if others := [*others, *(switch for switch, on in switches.items() if on)]:
            raise ConfigError(
                f"{flag} {others[0]}: {flag} shows something and runs nothing; leave {others[0]} out"
            )
    show = tuple(part for flag, value in shown for part in (flag, value) if isinstance(part, str))
    folders = [f"{SEARCH_PATH}=[{','.join(map(quoted, options.config_dir))}]"] if options.config_dir else []
    return CommandLine(
        [*folders, *options.overrides], options.multirun, options.help, show, options.dry_run, options.detach
    )
