"""The README's commands and columns are those of the code."""

import re
import shlex

import pytest

from analysis.schema import TABLES
from experiments.checks import ConfigError
from experiments.settings.launchers import check_launcher
from experiments.settings.plan import plan_jobs
from tests.places import ROOT

TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```\n(.*?)```", TEXT, flags=re.DOTALL)
LINES = [
    line for block in BLOCKS for line in block.replace("\\\n", "").splitlines()
]  # a backslash: it goes on
COMMANDS = [line.split("  #")[0].strip() for line in LINES]
RUNS = [command for command in COMMANDS if command.startswith("python -m experiments.run")]


@pytest.mark.parametrize("command", RUNS)
def test_commands_make_valid_jobs(command, tmp_path):
    arguments = shlex.split(command)[3:]
    overrides = [argument for argument in arguments if argument != "-m"]
    for launcher in re.findall(r"hydra/launcher=(\w+)", command):
        try:
            check_launcher(launcher)
        except ConfigError as error:
            pytest.skip(str(error))
    plan = plan_jobs([*overrides, f"output={tmp_path}"], multirun="-m" in arguments)
    assert plan.jobs


def test_the_readme_names_runs_and_scripts_that_exist():
    assert len(RUNS) >= 4
    scripts = set(re.findall(r"scripts/([\w-]+)", TEXT))
    assert {"reproduce", "test", "bench"} <= scripts
    assert all((ROOT / "scripts" / script).exists() for script in scripts)


def test_the_walk_through_of_the_audit_prints_what_the_readme_says(capsys):
    section = TEXT.split("## Why is my eval() worse than my train()?")[1].split("\n## ")[0]
    program = "\n".join(re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL))
    expected = re.search(r"It prints, among other lines:\n\n```\n(.*?)```", section, flags=re.DOTALL)
    assert expected
    exec(compile(program, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    number = re.compile(r"\d+\.\d+")
    for line in expected[1].splitlines():
        if "..." in line:
            assert line.split("...")[0] in printed
            continue
        # Another machine rounds differently on the way: the words are the same, the numbers nearly.
        same_words = [
            other for other in printed.splitlines() if number.sub("", other) == number.sub("", line)
        ]
        wanted = pytest.approx([float(value) for value in number.findall(line)], rel=0.2)
        assert any([float(value) for value in number.findall(other)] == wanted for other in same_words), line


def test_columns_and_pictures_exist():
    table = TEXT.split("## Read the tables")[1].split("##")[0]
    columns = {
        name for row in table.splitlines() if row.startswith("| `") for name in re.findall(r"`(\w+)`", row)
    }
    assert len(columns) > 10
    assert columns <= {*TABLES["layers.csv"].columns, *TABLES["members.csv"].columns}
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", TEXT)
    assert pictures
    assert all((ROOT / picture).exists() for picture in pictures)
