"""How commands of the analysis end: readers that leave, full disks, and paths that no line can show."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import pytest

from analysis.claims.__main__ import main as claims
from analysis.command import exit_status
from analysis.findings import main as findings
from analysis.render import page_command
from analysis.schema import main as schema
from tests.analysis import synthetic


def page(arguments: list[str]) -> int:
    """The command of a page that is empty."""

    def write(study: Path, out: Path) -> Path:
        out.mkdir(parents=True)
        (out / "index.html").touch()
        return out / "index.html"

    return page_command("page", "", "", write, arguments)


@contextmanager
def unread() -> Iterator[None]:
    """Give stdout a reader that is gone."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream, redirect_stdout(stream):
        yield


@pytest.fixture
def study(tmp_path) -> Path:
    shape = {"widths": (16,), "seeds": (0, 1), "noises": ("dropout",)}
    return synthetic.write(tmp_path / "study", *synthetic.tables(**shape))


@pytest.mark.parametrize("main", [page, claims, findings], ids=["page", "claims", "findings"])
def test_a_reader_that_leaves_is_no_error_and_finds_everything_written(main, study, tmp_path, capsys):
    with unread():
        assert main([str(study), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out").exists()
    assert capsys.readouterr() == ("", "")


def test_a_reader_of_the_help_may_leave(capsys):
    with unread():
        assert page(["--help"]) == 0
    with unread():
        assert schema([]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_disk_that_is_full_for_what_is_printed_is_one_line(study, tmp_path, capsys):
    with Path("/dev/full").open("w") as stream, redirect_stdout(stream):
        assert page([str(study), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "page: [Errno 28] No space left on device\n"


@pytest.mark.parametrize("main", [page, claims, findings], ids=["page", "claims", "findings"])
@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", "\udcff", "s3://bucket/key"], ids=ascii)
def test_a_path_that_cannot_be_used_is_refused_in_one_line(main, name, study, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for arguments in ([name], [str(study), "--out", name]):
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.endswith(": allowed is a path on this machine, of printable characters")
        assert line.isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


def test_an_error_of_ours_keeps_its_traceback():
    def work() -> int:
        raise TypeError("a mistake of ours")

    with pytest.raises(TypeError, match="a mistake of ours"):
        exit_status("page", work, ValueError)
