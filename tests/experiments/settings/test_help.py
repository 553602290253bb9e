"""`--help` explains every key, and does so without the heavy libraries."""

import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from experiments.settings.help import help_text
from experiments.settings.options import known_keys
from tests.places import CONF

FILES = sorted(path for path in CONF.rglob("*.yaml") if path.parent.name != "sweep")


def all_keys(config: dict) -> list[str]:
    """The last parts of all keys, each as often as it is there."""
    nested = [all_keys(value) for value in config.values() if isinstance(value, dict)]
    return sorted([*config, *(key for keys in nested for key in keys)])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_every_key_of_every_file_is_explained(path):
    config = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    shown = [line for line in path.read_text().splitlines() if f"  {line}\n" in f"{help_text()}\n"]
    explained = [line.split(":")[0].strip() for line in shown if ":" in line and line.partition("# ")[2]]
    assert sorted(explained) == all_keys({k: v for k, v in config.items() if k not in ("defaults", "hydra")})


@pytest.mark.parametrize(
    "path", sorted(CONF.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}={path.stem}"
)
def test_every_choice_of_every_group_is_listed_with_its_title(path):
    first = next(
        line for line in path.read_text().splitlines() if line.startswith("# ") and "@package" not in line
    )
    lines = [line for line in help_text().splitlines() if line.split()[:1] == [path.stem]]
    assert len([line for line in lines if line.endswith(first.removeprefix("# "))]) == 1


def test_hydras_own_settings_are_left_out():
    assert "subdir" not in help_text()
    assert "override hydra" not in help_text()
    assert not [key for key in known_keys() if key.startswith(("hydra", "defaults"))]


def test_known_keys_are_those_of_the_files():
    keys = known_keys()
    for path in CONF.glob("*/*.yaml"):
        if path.parent.name != "sweep":
            for key in OmegaConf.load(path):
                assert path.stem in keys[f"{path.parent.name}.{key}"]
    assert {"study", "members.seed", "members.dropout.rate", "members.uout.beta", "data", "model"} <= set(
        keys
    )


def test_a_reader_may_stop_in_the_middle(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "experiments.run", "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(CONF.parent), "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        assert process.stderr.read() == b""


def test_help_is_printed_from_any_folder_without_the_heavy_libraries(tmp_path):
    heavy = ("torch", "pandas", "sklearn", "analysis.theory")
    check = (
        "import runpy, sys; sys.argv = ['run', '--help']\n"
        "try: runpy.run_module('experiments.run', run_name='__main__')\n"
        f"except SystemExit as end: print([end.code, *(name for name in {heavy} if name in sys.modules)])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", check],
        cwd=tmp_path,
        env={"PYTHONPATH": str(CONF.parent), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == help_text() + "\n[0]\n"
    assert not list(tmp_path.iterdir())
