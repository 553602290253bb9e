"""Completion in a shell, as a shell asks for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.settings.completion import as_of_a_file, shell_script
from tests.places import ROOT


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("python -m experiments.run model.wi", "python run.py model.wi"),
        (".venv/bin/python3 -X dev -m experiments.run -m ", "python run.py -m "),
        ("python -m experiments.run -cd conf +sweep=", "python run.py hydra.searchpath=[conf] +sweep="),
        ("python -m experiments.run --config-dir=a m", "python run.py hydra.searchpath=[a] m"),
        ("python -m experiments.runs m", "python -m experiments.runs m"),
    ],
)
def test_a_line_is_asked_of_hydra_as_it_reads_one(line, expected):
    assert as_of_a_file(line) == expected


@pytest.mark.long
@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("python -m experiments.run -m data=gau", "data=gaussian"),
        ("python -m experiments.run model.wi", "model.width="),
        ("python -m experiments.run -cd own +sweep=mi", "+sweep=mine"),
        ("python -m pytest te", ""),
    ],
)
def test_bash_completes_what_hydra_would(tmp_path, line, completed):
    (tmp_path / "own" / "sweep").mkdir(parents=True)
    (tmp_path / "own" / "sweep" / "mine.yaml").touch()
    asked = f'COMP_LINE="{line}"; COMP_POINT=${{#COMP_LINE}}; _experiments_run; echo "${{COMPREPLY[@]}}"'
    answer = subprocess.run(
        ["bash", "-c", f'eval "$(python -m experiments.run -sc install=bash)"; {asked}; complete -p python'],
        cwd=tmp_path,
        env={
            "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stderr == ""
    assert answer.stdout.splitlines() == [
        completed,
        "complete -o default -o nospace -F _experiments_run python",
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_each_shell_reads_the_script_and_is_rid_of_it(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    parts = [shell_script(f"install={shell}")]
    if shell == "bash":
        parts += [shell_script("uninstall=bash"), "complete -p python || echo gone"]
    ended = subprocess.run([shell, "-c", "\n".join(parts)], capture_output=True, text=True, check=True)
    assert ended.stdout == ("gone\n" if shell == "bash" else "")
