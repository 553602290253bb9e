"""What the README.md files say is so: commands, options, programs, links, paths and columns exist."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import torch

from analysis import schema
from analysis.audit.__main__ import read_settings
from analysis.claims.__main__ import main as judge
from analysis.report import main as report
from experiments.checks import ConfigError
from experiments.modes.__main__ import study_folder
from experiments.settings.launchers import check_launcher
from experiments.settings.options import groups, known_keys
from experiments.settings.plan import plan_jobs
from tests.places import CONF, ROOT
from tests.programs import programs

FIRST = ROOT / "README.md"
AUDIT = ROOT / "analysis" / "audit" / "README.md"
FIGURES = ROOT / "analysis" / "figures" / "README.md"
OWN = ROOT / "experiments" / "networks" / "README.md"
STUDY = ROOT / "experiments" / "study" / "README.md"
ROOMS = ("analysis", "conf", "experiments", "scripts", "tests")
PAGES = [FIRST, *sorted(page for room in ROOMS for page in (ROOT / room).rglob("README.md"))]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
# In a table a line ends what it quotes; in prose a quotation may go on in the next line.
QUOTATION = re.compile(r"`([^`]+)`")
PLACEHOLDER = re.compile(r"[A-Z]+")  # such as STUDY, FOLDER
PATH = re.compile(r"\.?[\w-][\w.-]*(/[\w.-]+)+/?|[\w-]+/")
OPTION = re.compile(r"\+?[a-z][a-z_]*([./][a-z_]+)*=\S+")
COMMAND = re.compile(r"(\.venv/bin/)?python -m \S|scripts/\w|pip install|wandb [a-z]")
# What W&B's runs hold under names with a slash.
WANDB_NAMES = {
    *(f"{section}/..." for section in ("layer", "loss", "error", "shift")),
    "shift_ratio/1",
    "views/layers",
}
LONGEST_LINE = 120


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The text without its blocks of code."""
    return BLOCK.sub("", TEXTS[page])


def quotations(page: Path) -> list[str]:
    """Everything in back-ticks."""
    return [" ".join(quoted.split()) for quoted in QUOTATION.findall(prose(page))]


def blocks(page: Path, language: str) -> list[str]:
    return [block for kind, block in BLOCK.findall(TEXTS[page]) if kind == language]


def commands(page: Path) -> list[str]:
    """Every command, in a block or in the text; a line that ends in a backslash goes on in the next."""
    lines = [line for block in blocks(page, "") for line in block.replace("\\\n", " ").splitlines()]
    typed = [line.split("  #")[0].strip() for line in lines]
    return [*filter(None, typed), *filter(COMMAND.match, quotations(page))]


def anchors(page: Path) -> set[str]:
    """The headings, as links name them."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", TEXTS[page]), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[tuple[Path, str]]:
    """The files that a page links or shows, each with the heading in it, or none."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page).replace("\n", " "))
    split = [target.partition("#") for target in targets if "://" not in target]
    return [((page.parent / file).resolve() if file else page, anchor) for file, _, anchor in split]


each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)
each_command = pytest.mark.parametrize(
    ("page", "command"),
    [
        pytest.param(page, command, id=f"{name_of(page)}: {command}")
        for page in PAGES
        for command in dict.fromkeys(commands(page))
    ],
)


def test_the_first_page_is_short():
    assert len(TEXTS[FIRST].splitlines()) <= 200
    assert len(PAGES) > 10


def test_every_page_can_be_reached_from_the_first():
    reached, todo = set(), [FIRST]
    while todo:
        page = todo.pop()
        reached.add(page)
        todo += [file for file, _ in links(page) if file in TEXTS and file not in reached]
    assert {name_of(page) for page in PAGES} == {name_of(page) for page in reached}


@each_page
def test_lines_are_short(page):
    long = [line for line in TEXTS[page].splitlines() if len(line) > LONGEST_LINE and line[0] != "|"]
    assert not long


@each_page
def test_links_and_pictures_exist(page):
    for file, anchor in links(page):
        assert file.exists(), file
        assert not anchor or anchor in anchors(file), f"{file}#{anchor}"


@each_page
def test_files_and_folders_exist(page):
    paths = {quoted for quoted in quotations(page) if PATH.fullmatch(quoted)} - WANDB_NAMES
    for path in sorted(paths):
        parts = path.rstrip("/").split("/")
        if parts[0] == "outputs" or any(PLACEHOLDER.fullmatch(part) for part in parts):
            continue  # what a command writes, or what the reader chooses
        assert (ROOT / path).exists() or (page.parent / path).exists(), path


@each_page
def test_names_within_the_packages_exist(page):
    for quoted in quotations(page):
        if re.fullmatch(r"(analysis|experiments|scripts|tests)(\.\w+)+", quoted):
            assert find_spec(quoted), quoted


@each_command
def test_commands_can_be_typed(page, command, tmp_path, monkeypatch):
    words = shlex.split(command)
    if page == OWN:
        save_programs(page, tmp_path, monkeypatch)
    if words[1:2] == ["-m"]:
        check_module(words[2], words[3:], tmp_path, monkeypatch)
    elif words[0].startswith("scripts/"):
        script = ROOT / words[0]
        assert script.stat().st_mode & 0o100, "cannot be executed"
        modules = [module_file(name) for name in re.findall(r"python -m (scripts\S*)", script.read_text())]
        check_flags(words[1:], [script, *modules])
    elif words[:2] == ["pip", "install"]:
        check_extras(words[-1])
    elif words[0] == "wandb":
        cli = pytest.importorskip("wandb.cli.cli").cli
        assert words[1] in cli.commands
    else:
        pytest.fail("no command that is known here")


def save_programs(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go to a folder in which a reader has saved the programs of a page."""
    for name, text in programs(page).items():
        (folder / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(folder)


def check_module(name: str, arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Assert that `python -m name arguments` is a command, and what its own checks say of the arguments."""
    file = module_file(name)
    flags = {"-m", "--help"} & set(arguments)
    settings = [argument for argument in arguments if argument not in flags]
    if name == "experiments.run":
        for launcher in re.findall(r"hydra/launcher=(\w+)", " ".join(settings)):
            try:
                check_launcher(launcher)
            except ConfigError as error:
                pytest.skip(str(error))
        assert plan_jobs([*settings, f"output={folder}"], multirun="-m" in flags).jobs
    elif name == "experiments.modes":
        assert study_folder(settings)
    elif name == "analysis.audit":
        monkeypatch.chdir(folder)
        Path("weights.safetensors").touch()
        assert read_settings(settings)
    else:
        check_flags(settings, [file])


def module_file(name: str) -> Path:
    """The file that `python -m name` runs."""
    spec = find_spec(name)
    if spec and spec.submodule_search_locations:
        spec = find_spec(f"{name}.__main__")
    assert spec, f"no module {name}"
    assert spec.origin
    return Path(spec.origin)


def check_flags(words: list[str], sources: list[Path]) -> None:
    """Assert that each flag stands in the source of what reads it."""
    text = "".join(source.read_text(encoding="utf-8") for source in sources)
    for flag in (word for word in words if word.startswith("-")):
        assert f'"{flag}"' in text, flag


def check_extras(requirement: str) -> None:
    """Assert that the project has the extras in brackets."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name, extras = re.fullmatch(r"([\w.-]+)\[([\w,]+)\]", requirement).groups()  # type: ignore[union-attr]
    assert name in (".", project["name"])
    assert set(extras.split(",")) <= set(project["optional-dependencies"])


@each_page
def test_options_exist(page):
    keys, choices = known_keys(), groups()
    for quoted in quotations(page):
        words = shlex.split(quoted) if "=" in quoted and "'variance" not in quoted else []
        if not words or not all(OPTION.fullmatch(word) for word in words):
            continue
        for word in words:
            key, _, value = word.lstrip("+").partition("=")
            assert key in keys or key in choices, word
            if key in choices and not PLACEHOLDER.fullmatch(value):
                assert value in choices[key], word


@pytest.mark.parametrize("group", ["data", "model", "recipe", "sweep", "hydra/launcher"])
def test_every_choice_is_explained(group):
    page = CONF / "sweep" / "README.md" if group == "sweep" else CONF / "README.md"
    words = set(re.findall(r"\w+", TEXTS[page]))
    assert {file.stem for file in (CONF / group).glob("*.yaml")} <= words


@pytest.mark.long
def test_the_walk_through_of_the_audit_prints_what_the_page_says(tmp_path):
    """And does so on any number of threads; the few lines of the first page go on from there."""
    (expected,) = blocks(AUDIT, "text")
    mark = "the first page"
    program = "\n".join([*blocks(AUDIT, "python"), f"print({mark!r})", *blocks(FIRST, "python")])
    one_thread, two_threads = printed_by(program, tmp_path)
    assert one_thread == two_threads
    walk_through, _, first_page = one_thread.partition(mark)
    found = re.fullmatch(pattern(expected), walk_through.strip(), flags=re.DOTALL)
    assert found, walk_through
    numbers = [float(number) for number in re.findall(r"\d+\.\d+", expected)]
    # Dropout draws its masks by MKL where torch has it, and otherwise elsewhere.
    tolerance = 0.0 if torch.backends.mkl.is_available() else 0.2
    assert [float(number) for number in found.groups()] == pytest.approx(numbers, rel=tolerance)
    assert "BN layers" in first_page
    assert "adjusted" in first_page


def printed_by(program: str, folder: Path) -> list[str]:
    """What a program prints on one thread and on two, both at work at once."""
    file = folder / "program.py"
    file.write_text(program, encoding="utf-8")
    # A thread that waits shall sleep: other tests are at work beside it.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "passive"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", file],
            env=environment | {"OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for threads in (1, 2)
    ]
    printed = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    return printed


def pattern(shown: str) -> str:
    """What matches printed text: any line breaks, any decimal numbers, and anything for three dots."""
    parts = [r"\s+".join(map(re.escape, part.split())) for part in shown.split("...")]
    return re.sub(r"\d+\\\.\d+", r"(\\d+\\.\\d+)", r"\s*.*?\s*".join(parts))


def test_programs_stand_where_they_are_run():
    # Those of the page of figures in tests/analysis/test_plot.py, of that of tables in tests/test_member.py.
    pages = [page for page in PAGES if blocks(page, "python")]
    assert sorted(pages) == sorted([FIRST, AUDIT, FIGURES, OWN, STUDY])
    assert list(programs(OWN)) == ["mynet.py", "mydata.py"]


@pytest.mark.long
def test_a_network_and_data_of_ones_own_are_trained_judged_and_reported_as_the_page_says(
    run, tmp_path, monkeypatch, capsys
):
    save_programs(OWN, tmp_path, monkeypatch)
    words = shlex.split(commands(OWN)[0])
    assert words[:3] == ["python", "-m", "experiments.run"]
    ended = run(*words[3:], "members.dropout.rate=[0.5]")
    assert ended.status == 0
    assert "6 members ok" in ended.out
    study = tmp_path / "outputs" / "mine"
    layers = pd.read_csv(study / "layers.csv")
    assert (layers.data.unique(), layers.model.unique()) == (["custom"], ["custom"])
    noisy = layers[layers.placement == "before_bn"]
    assert noisy.groupby("layer_name").shift_ratio.mean().max() < 0.9
    assert noisy.local_ratio_exact.to_numpy() == pytest.approx(noisy.local_ratio.to_numpy(), rel=0.02)
    assert judge([str(study)]) == 0
    assert "supported" in capsys.readouterr().out
    assert report([str(study)]) == 0
    assert "custom" in (study / "report" / "index.html").read_text(encoding="utf-8")


def test_the_call_from_python_gives_the_tables_that_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, program = blocks(STUDY, "python")
    small = 'study="w", model={"width": 8}, recipe={"epochs": 1}, processes=1, '
    names: dict = {}
    exec(program.replace('study="w", ', small), names)
    assert set(names["study"].members.seed) == {0, 1}
    assert all(len(getattr(names["study"], name)) for name in ("members", "layers", "epochs"))


def test_columns_are_those_of_the_schema():
    for text in TEXTS.values():
        assert schema.fill_tables(text) == text
    marked = re.findall(r"<!-- columns of (\S+) -->", "".join(TEXTS.values()))
    assert sorted(marked) == sorted(schema.TABLES)


def test_the_columns_that_are_named_exist():
    columns = set(re.findall(r"^\| `(\w+)` \|", TEXTS[STUDY], flags=re.MULTILINE))
    tables = ("members.csv", "layers.csv", "epochs.csv", "flips.csv")
    assert {f"## {table}" for table in tables} <= set(TEXTS[STUDY].splitlines())
    assert {"shift_ratio", "shift_magnitude", "test_error", "train_loss", "lost"} <= columns


def test_what_is_said_of_size_is_so():
    lines = (ROOT / "tests" / "reference.py").read_text(encoding="utf-8").splitlines()
    assert "the experiment in 230 lines" in TEXTS[FIRST]
    assert len(lines) == pytest.approx(230, abs=10)
    (size,) = re.findall(r"[\d.]+ GB", TEXTS[FIRST])
    assert size in (ROOT / "scripts" / "setup").read_text(encoding="utf-8")
