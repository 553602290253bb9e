"""The README's commands and columns are those of the code."""

import re
import shlex
from pathlib import Path

import pytest

from experiments.plan import plan_jobs
from experiments.tables import LAYER_COLUMNS, MEMBER_COLUMNS

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = [line.split("  #")[0].strip() for block in BLOCKS for line in block.splitlines()]
RUNS = [command for command in COMMANDS if command.startswith("python -m experiments.run")]


@pytest.mark.parametrize("command", RUNS)
def test_commands_make_valid_jobs(command, tmp_path):
    arguments = shlex.split(command)[3:]
    overrides = [argument for argument in arguments if argument != "-m"]
    plan = plan_jobs([*overrides, f"output={tmp_path}"], multirun="-m" in arguments)
    assert plan.jobs


def test_the_readme_names_runs_and_scripts_that_exist():
    assert len(RUNS) >= 4
    scripts = set(re.findall(r"scripts/(\w+)", TEXT))
    assert {"reproduce", "test", "bench"} <= scripts
    assert all((ROOT / "scripts" / script).exists() for script in scripts)


def test_columns_and_pictures_exist():
    table = TEXT.split("## Read the tables")[1].split("##")[0]
    columns = {
        name for row in table.splitlines() if row.startswith("| `") for name in re.findall(r"`(\w+)`", row)
    }
    assert len(columns) > 10
    assert columns <= {*LAYER_COLUMNS, *MEMBER_COLUMNS}
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", TEXT)
    assert pictures
    assert all((ROOT / picture).exists() for picture in pictures)
