"""Files that come into a folder all together, or not at all; and what is no file."""

import os
import signal
import subprocess
import sys

import pytest

from analysis.files import regular_file, written_together
from tests.conftest import files_below
from tests.full_disk import full_disk
from tests.no_files import NO_FILES, put
from tests.places import ROOT

pytestmark = pytest.mark.timeout(60)  # who waits for a pipe waits forever
OLD = {"a.svg": b"old", "index.html": b"old page", "notes.txt": b"of the user"}


@pytest.fixture
def folder(tmp_path):
    for name, content in OLD.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_files_come_together_and_others_stay(folder):
    with written_together(folder) as files:
        files |= {"a.svg": None, "b.svg": b"new", "index.html": b"new page"}
        assert files_below(folder) == OLD
    assert files_below(folder) == {"b.svg": b"new", "index.html": b"new page", "notes.txt": b"of the user"}


def test_a_file_of_a_folder_inside_comes_and_goes_with_the_others(folder):
    with written_together(folder) as files:
        files |= {"data/a.csv": b"new", "data/b.csv": None, "index.html": b"new page"}
        assert files_below(folder) == OLD
    assert files_below(folder)["data/a.csv"] == b"new"
    with full_disk(3000), pytest.raises(OSError, match="too large"), written_together(folder) as files:
        files |= {"data/a.csv": None, "more/c.csv": bytes(4000)}
    assert files_below(folder)["data/a.csv"] == b"new"
    assert not (folder / "more").exists()
    with written_together(folder) as files:
        files |= {"data/a.csv": None}
    assert "data/a.csv" not in files_below(folder)


def test_an_error_leaves_the_old_files_and_no_new_folder(folder):
    for place in (folder, folder / "new"):
        with pytest.raises(ZeroDivisionError), written_together(place) as files:
            files |= {"a.svg": b"new", "index.html": b"%d" % (1 // 0)}
    assert files_below(folder) == OLD


def test_a_full_disk_leaves_the_old_files(folder):
    with full_disk(3000), pytest.raises(OSError, match="too large"), written_together(folder) as files:
        files |= {"a.svg": b"new", "index.html": bytes(4000)}
    assert files_below(folder) == OLD


def test_a_kill_leaves_the_old_files_and_what_it_left_goes_with_the_next_ones(folder):
    killed = (
        "import os, signal, sys; from pathlib import Path; from analysis.files import written_together\n"
        "calls = iter([lambda: None, lambda: os.kill(os.getpid(), signal.SIGKILL)])\n"
        "os.fsync = lambda number: next(calls)()\n"  # while the second file is written
        "with written_together(Path(sys.argv[1])) as files:\n"
        "    files |= {'a.svg': b'new', 'index.html': b'new page'}"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", killed, folder], env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    left = files_below(folder)
    assert {name: left[name] for name in OLD} == OLD
    assert len(left) > len(OLD)
    with written_together(folder) as files:
        files |= {"a.svg": b"new"}
    assert files_below(folder) == OLD | {"a.svg": b"new"}


def test_nothing_is_written_through_a_link(folder):
    (folder / "index.html").unlink()
    (folder / "index.html").symlink_to("notes.txt")
    with written_together(folder) as files:
        files["index.html"] = b"new page"
    assert not (folder / "index.html").is_symlink()
    assert files_below(folder) == OLD | {"index.html": b"new page"}


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_neither_read_nor_replaced(folder, kind):
    put(kind, folder / "index.html")
    with pytest.raises(OSError, match=f"is a {kind}, not a file"):
        regular_file(folder / "index.html")
    with pytest.raises(OSError, match=f"is a {kind}, not a file"), written_together(folder) as files:
        files |= {"a.svg": b"new", "index.html": b"new page"}
    assert (folder / "a.svg").read_bytes() == b"old"
    assert not (folder / "index.html").is_file()


def test_a_folder_that_cannot_be_written_is_said_before_the_work(folder):
    (folder / "file").touch()
    begun = []
    with pytest.raises(OSError, match="exists"), written_together(folder / "file"):
        begun.append("drawing")
    assert not begun
