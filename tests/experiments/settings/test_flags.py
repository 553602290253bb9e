"""The flags of the command line, and the line that answers those that make no sense."""

import pytest

from experiments.checks import ConfigError
from experiments.settings.flags import CommandLine, read_flags


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("", CommandLine([])),
        ("a=1 -m b=2", CommandLine(["a=1", "b=2"], multirun=True)),
        ("--multirun -m", CommandLine([], multirun=True)),
        ("-h a=1", CommandLine(["a=1"], help=True)),
        ("--help model=mlp recipe", CommandLine(["model=mlp", "recipe"], help=True)),
        ("a=1 --dry-run -m", CommandLine(["a=1"], multirun=True, dry_run=True)),
        ("--detach a=1", CommandLine(["a=1"], detach=True)),
        ("a=1 --cfg job b=2", CommandLine(["a=1", "b=2"], show=("--cfg", "job"))),
        ("-c all", CommandLine([], show=("--cfg", "all"))),
        ("--info", CommandLine([], show=("--info", "all"))),
        ("--info plugins", CommandLine([], show=("--info", "plugins"))),
        ("--hydra-help", CommandLine([], show=("--hydra-help",))),
        ("-m --cfg job", CommandLine([], multirun=True, show=("--cfg", "job"))),
        ("-sc install=bash", CommandLine([], show=("--shell-completion", "install=bash"))),
        ("a=1 --config-dir x -cd y", CommandLine(["hydra.searchpath=['x','y']", "a=1"])),
        ("-1", CommandLine(["-1"])),
    ],
)
def test_flags_are_told_from_overrides_wherever_they_stand(typed, expected):
    assert read_flags(typed.split()) == expected


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("--cfg foo", "--cfg=foo: allowed is one of job, hydra, all"),
        ("--cfg", "--cfg=: allowed is one of job, hydra, all"),
        ("--cfg model.width=3", "--cfg=model.width=3: allowed is one of job, hydra, all"),
        ("--info foo", "--info=foo: allowed is one of all, config"),
        ("--info --cfg job", "--cfg --info: --cfg shows something and runs nothing; leave --info out"),
        (
            "--dry-run --cfg job",
            "--cfg --dry-run: --cfg shows something and runs nothing; leave --dry-run out",
        ),
        ("-x", "-x: no such flag here; known are --cfg"),
        ("--cf job", "--cf: no such flag here"),
        ("--resolve=3", "--resolve: no such flag here"),
        ("--config-dir", "argument --config-dir/-cd: expected one argument; known are --cfg"),
        ("-sc", "--shell-completion=: allowed is one of install=bash, install=zsh"),
        ("-sc install=fish", "--shell-completion=install=fish: allowed is one of install=bash, install=zsh"),
        ("-sc install=bash --cfg job", "--cfg --shell-completion: --cfg shows something and runs nothing"),
        ("--help=3", "argument --help/-h: ignored explicit argument '3'; known are --cfg"),
        ("-mx", "argument --multirun/-m: ignored explicit argument 'x'; known are --cfg"),
    ],
)
def test_a_flag_that_makes_no_sense_is_answered_with_what_is_allowed(typed, line):
    with pytest.raises(ConfigError) as raised:
        read_flags(typed.split())
    assert str(raised.value).startswith(line)
