"""How the house is cut: what a room imports stands below it, and nothing runs back up."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.places import ROOT

TOPS = ("experiments", "analysis", "scripts")
FILES = {path: path.relative_to(ROOT).with_suffix("") for top in TOPS for path in (ROOT / top).rglob("*.py")}
MODULES = {".".join(p for p in name.parts if p != "__init__"): path for path, name in FILES.items()}


def imported_modules(path: Path) -> set[str]:
    """The project's modules that a file imports anywhere, functions and type checking included."""
    parts = FILES[path].parts
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = [*parts[: len(parts) - node.level]] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
            names.add(module)
    return {name for name in names if name in MODULES}


def room(module: str) -> str:
    """The folder or file right below `experiments`, `analysis` or `scripts` that a module belongs to.

    A folder's command, which is typed and never imported, stands above all rooms.
    """
    return module if module.endswith(".__main__") else ".".join(module.split(".")[:2])


ARROWS = {
    (name, other) for name, path in MODULES.items() for other in imported_modules(path) if other != name
}


def assert_no_circle(arrows: set[tuple[str, str]]) -> None:
    below: dict[str, set[str]] = {}
    for name, other in arrows:
        below.setdefault(name, set()).add(other)
    TopologicalSorter(below).prepare()  # raises CycleError, which names the circle


def test_no_files_import_each_other_in_a_circle():
    # A package's __init__ that gathers its own files is no circle of theirs.
    assert_no_circle({(a, b) for a, b in ARROWS if not a.startswith(f"{b}.")})


@pytest.mark.parametrize("top", ["experiments", "analysis"])
def test_no_rooms_import_each_other_in_a_circle(top):
    arrows = {(room(a), room(b)) for a, b in ARROWS if a.startswith(top) and b.startswith(top)}
    assert_no_circle({(a, b) for a, b in arrows if a != b and top not in (a, b)})


# A study is read by one reader, also where a call from Python trains it first: `run_study` ends with `read_study`.
# Nothing else of the harness reads through the analysis what it wrote.
DOOR = ("experiments.run", "analysis.tables")


def test_the_harness_uses_nothing_of_analysis_but_theory_and_the_schema():
    arrows = {(a, room(b)) for a, b in ARROWS if a.startswith("experiments") and b.startswith("analysis.")}
    assert {b for _, b in arrows - {DOOR}} <= {"analysis.theory", "analysis.schema"}


def test_analysis_uses_nothing_of_the_harness():
    assert not {(a, b) for a, b in ARROWS if a.startswith("analysis") and not b.startswith("analysis")}


def test_theory_uses_nothing_of_the_project():
    assert not {(a, b) for a, b in ARROWS if room(a) == "analysis.theory" and room(b) != "analysis.theory"}


def test_no_room_uses_scripts():
    assert not {(a, b) for a, b in ARROWS if not a.startswith("scripts") and b.startswith("scripts")}
