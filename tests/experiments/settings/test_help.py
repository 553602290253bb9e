"""`--help` explains every key, and does so without the heavy libraries."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from experiments.checks import ConfigError
from experiments.settings.help import help_text
from experiments.settings.options import groups, known_keys
from tests.places import CONF

FILES = sorted(path for path in CONF.rglob("*.yaml") if path.parent.name != "sweep")
WIDTH = 80


def words(text: str) -> str:
    """A text on one line, with single blanks."""
    return " ".join(text.split())


def topic_of(path: Path) -> list[str]:
    """The topic of a file in conf: its choice, or of one that changes others the recipe that does it."""
    if path.parent.parent.name == "recipe":
        return [f"recipe={path.stem.partition('_')[0]}"]
    group = path.parent.relative_to(CONF)
    return (
        [f"{group}={path.stem}"]
        if path.parent != CONF
        else ["study", "output", "device", "processes", "chunk", "job", "members", "measure"]
    )


def explained(config: dict, lines: list[str], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The dotted keys of a file, each with the comment that stands behind it there."""
    for key, value in config.items():
        if key in ("defaults", "hydra"):
            continue
        line = next(line for line in lines if re.match(rf"\s*{key}:", line))
        lines = lines[lines.index(line) + 1 :]
        yield f"{prefix}{key}", line.partition(" # ")[2]
        if isinstance(value, dict):
            yield from explained(value, lines, f"{prefix}{key}.")
            lines = lines[len(list(explained(value, lines))) :]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_every_key_of_every_file_is_explained_by_its_topic(path):
    config: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    group = path.parent.relative_to(CONF)
    prefix = f"{group}.".replace("/", ".") if path.parent != CONF and "recipe/" not in str(group) else ""
    answer = help_text(topic_of(path))
    keys = list(explained(config, path.read_text().splitlines(), prefix))
    assert keys or list(config) == ["defaults"]  # whose keys are those of other files
    for key, text in keys:
        assert words(text)
        assert re.search(rf"^  {re.escape(key)}\b", answer, re.MULTILINE)
        assert words(text) in words(answer)


@pytest.mark.parametrize(
    "path",
    sorted(path for path in CONF.glob("*/*.yaml") if "launcher" not in str(path)),
    ids=lambda path: f"{path.parent.name}={path.stem}",
)
def test_every_choice_of_every_group_is_on_the_page_and_in_its_group_with_its_title(path):
    first = next(
        line for line in path.read_text().splitlines() if line.startswith("# ") and "@package" not in line
    )
    title = words(first.removeprefix("# "))
    group = help_text([path.parent.name])
    assert f"{path.stem} {title}" in words(group)
    assert title in words(help_text([f"{path.parent.name}={path.stem}"]))
    assert re.search(rf"\b{path.stem}\b", help_text())


def test_help_fits_on_a_page_and_every_answer_in_80_columns():
    assert len(help_text().splitlines()) <= 55
    topics = [[group] for group in groups()]
    topics += [[f"{group}={name}"] for group, names in groups().items() for name in names]
    topics += [["members"], ["hydra/launcher"], ["hydra.launcher"], ["model.width"]]
    for topic in [[], *topics]:
        wide = [line for line in help_text(topic).splitlines() if len(line) > WIDTH]
        assert not wide


def test_the_page_names_every_section_with_its_keys():
    page = words(help_text())
    assert "study=first_look name of the study" in page
    assert "(draws, interventions, flips)" in page
    assert "(seed, none, save, dropout, uout, gaussian, lr, weight_decay)" in page


@pytest.mark.parametrize(
    ("topic", "told", "left_out"),
    [
        ("members", "members.dropout.rate=[0.1,0.5] DROP rates in [0, 1), or null", "recipe.epochs"),
        ("members.dropout.rate", "members.dropout.rate=[0.1,0.5] DROP rates", "members.seed"),
        ("members.dropout.rate=[0.2]", "members.dropout.rate=[0.1,0.5] DROP rates", "members.seed"),
        ("model=densenet", "model.width=8 growth rate: channels that each dense layer adds", "cardinality"),
        ("model=densenet", "recipe=paper, model=densenet: the settings", "densenet_bc_100"),
        ("recipe", "recipe=one_cycle, the default recipe.name=one_cycle", "recipe.warmup"),
        ("+sweep=width", "model.width=8,16,32,64,128,256,512 jobs of their own", "hydra"),
        ("sweep=paper_fig5", "data=cifar10 recipe=paper study=paper_fig5", "@package"),
        ("hydra/launcher=slurm", "hydra.launcher.timeout_min=240 minutes a job may take", "ray.init"),
        ("model.width", "with model=wrn28_10 model.width=160", "model.depth"),
    ],
)  # fmt: skip
def test_a_topic_is_answered_alone(topic, told, left_out):
    answer = words(help_text([topic]))
    assert told in answer
    assert left_out not in answer


@pytest.mark.parametrize(
    ("topic", "hint"),
    [
        ("memberz", "the nearest are members, members.lr, members.uout"),
        ("rate", "the nearest are members.dropout.rate"),
        ("densenet", "the nearest are model=densenet"),
        ("model=densnet", "the nearest are model=densenet, model=resnext, model=wide_resnet"),
        ("qqqqqq", "--help lists them"),
    ],
)
def test_an_unknown_topic_is_one_line_with_the_nearest(topic, hint, run):
    ended = run("--help", topic)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == f"error: --help {topic}: no such topic; {hint}\n"


def test_hydras_own_settings_are_left_out():
    assert "subdir" not in help_text()
    assert "override" not in help_text(["sweep=width"])
    with pytest.raises(ConfigError):
        help_text(["hydra.sweep.dir"])
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
