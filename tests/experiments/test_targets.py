"""Functions of the user's own: found as they are named, executed as they were hashed, bad ones one line."""

import sys

import pytest

from experiments.checks import ConfigError
from experiments.targets import call_target, load_target, with_source
from tests.conftest import files_below


def source_of(target: str) -> str:
    return with_source("model", {"target": target, "source": None})["source"]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a module that imports its neighbour, and a file beside it, in the current folder."""
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("def here():\n    return 'package'\n")
    (tmp_path / "pkg" / "other.py").write_text("ANSWER = 'neighbour'\n")
    (tmp_path / "pkg" / "net.py").write_text("from .other import ANSWER\n\ndef build():\n    return ANSWER\n")
    (tmp_path / "alone.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Kept:\n    value: int = 3\n\ndef build():\n    return Kept().value\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("target", "returned"),
    [
        ("alone.py:build", 3),
        ("alone:build", 3),
        ("pkg.net:build", "neighbour"),
        ("pkg:here", "package"),
        ("pkg/__init__.py:here", "package"),
    ],
)
def test_a_function_is_found_by_its_module_or_its_file(package, target, returned):
    assert call_target("model", target, source_of(target), "") == returned
    assert call_target("model", f"{package}/alone.py:build", source_of("alone.py:build"), "") == 3


def test_what_is_executed_is_what_was_hashed_also_in_a_process_that_goes_on(package):
    first = source_of("alone:build")
    assert call_target("model", "alone:build", first, "") == 3
    file = package / "alone.py"
    file.write_text(file.read_text().replace("= 3", "= 4"))  # in the same second, of the same length
    second = source_of("alone:build")
    assert call_target("model", "alone:build", second, "") == 4
    assert call_target("model", "alone:build", first, "") == 3
    load_target.cache_clear()
    with pytest.raises(
        ConfigError, match=r"^model.target=alone:build: \S+alone.py was changed meanwhile; type the"
    ):
        call_target("model", "alone:build", first, "")
    assert "alone" not in sys.modules, "the user's own import of it stays as it is"


BAD = [
    ("null", "=null: allowed is MODULE:NAME or PATH.py:NAME"),
    ("alone", "=alone: allowed is MODULE:NAME or PATH.py:NAME"),
    ("alone.txt:build/x", "=alone.txt:build/x: allowed is MODULE:NAME or PATH.py:NAME"),
    ("nothing:build", "=nothing:build: no module nothing with a source file is found; allowed is a module of"),
    ("nothing.at.all:build", "=nothing.at.all:build: nothing.at.all cannot be imported (ModuleNotFoundError: No"),
    ("sys:exit", "=sys:exit: no module sys with a source file is found; allowed is"),
    ("nothing.py:build", "=nothing.py:build: ", "nothing.py cannot be read (No such file or directory)"),
    ("pkg.py:build", "=pkg.py:build: ", "pkg.py cannot be read"),
    ("alone.py:bild", "=alone.py:bild: ", "alone.py holds no function bild; allowed is one of Kept, build"),
    ("broken.py:build", "=broken.py:build: the file raises SyntaxError: ", "(broken.py, line 1)"),
    ("raises.py:build", "=raises.py:build: the file raises ZeroDivisionError: ", "(raises.py, line 2)"),
    ("exits.py:build", "=exits.py:build: the file raises SystemExit: 3"),
]  # fmt: skip


@pytest.mark.parametrize("section", ["model", "data"])
@pytest.mark.parametrize(
    ("target", "begin", "more"), [(*bad, "")[:3] for bad in BAD], ids=[bad[0] for bad in BAD]
)
def test_a_bad_target_is_one_line(run, package, tiny, section, target, begin, more):
    (package / "broken.py").write_text("def build(:\n")
    (package / "raises.py").write_text("def build(): pass\n1 / 0\n")
    (package / "exits.py").write_text("raise SystemExit(3)\n")
    before = files_below(package)
    ended = run(*tiny, f"{section}=custom", f"{section}.target={target}")
    assert ended.status == 2
    assert ended.err.startswith(f"error: {section}.target{begin}"), ended.err
    assert more in ended.err
    assert "; allowed is" in ended.err or ": allowed is" in ended.err
    assert len(ended.err.splitlines()) == 1
    assert {name: text for name, text in files_below(package).items() if "__pycache__" not in name} == before
