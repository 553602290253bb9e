"""Files that are written whole or not at all, and what is no file."""

import os
import signal
import subprocess
import sys

import pytest

from experiments.checks import ConfigError, regular_file
from experiments.modes import study as mode_study
from experiments.study.files import all_or_nothing, write_text
from experiments.study.inventory import take_inventory
from experiments.study.locks import study_lock
from experiments.study.part import part_folder, read_job
from experiments.study.tables import TABLES, Rows, join_tables
from tests.experiments.study.small_study import finish, make
from tests.no_files import NO_FILES, put
from tests.places import ROOT

pytestmark = pytest.mark.timeout(60)  # who waits for a pipe waits forever


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_nothing_is_written_through_what_lies_at_the_partial_name(tmp_path, kind):
    victim, partial = tmp_path / "victim", tmp_path / ".t.csv.partial"
    victim.write_text("of somebody else")
    if kind == "link":
        partial.symlink_to(victim)
    else:
        os.mkfifo(partial)
    write_text(tmp_path / "t.csv", "whole")
    assert (tmp_path / "t.csv").read_text() == "whole"
    assert not (tmp_path / "t.csv").is_symlink()
    assert victim.read_text() == "of somebody else"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.csv", "victim"]


def test_a_write_that_breaks_off_leaves_nothing_behind(tmp_path):
    (tmp_path / "t.csv").write_text("old")
    with pytest.raises(ZeroDivisionError), all_or_nothing(tmp_path / "t.csv") as file:
        print("new", 1 // 0, file=file)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("t.csv", "old")]


def test_what_a_killed_process_left_of_a_file_goes_when_the_next_one_is_at_work(tmp_path):
    killed = (
        "import os, signal, sys; from pathlib import Path; from experiments.study.files import all_or_nothing\n"
        "with all_or_nothing(Path(sys.argv[1])) as file:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    (tmp_path / "errors.txt").write_text("old")
    ended = subprocess.run(
        [sys.executable, "-c", killed, tmp_path / "errors.txt"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    assert (tmp_path / ".errors.txt.partial").exists()
    with study_lock(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {".lock", "errors.txt"}
    assert (tmp_path / "errors.txt").read_text() == "old"


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_not_opened(tmp_path, kind):
    put(kind, tmp_path / "x")
    with pytest.raises(OSError, match=rf"is a {kind}, not a file: '{tmp_path}/x'"):
        regular_file(tmp_path / "x")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    assert regular_file(tmp_path / "link") == tmp_path / "link"


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("name", ["done.json", "members.csv"])
def test_a_job_whose_files_are_no_files_is_said_not_waited_for(study, kind, name):
    job = finish(make(study))
    put(kind, part_folder(job) / name)
    with pytest.raises(OSError, match=f"is a {kind}, not a file"):
        take_inventory(study)


@pytest.mark.parametrize("kind", NO_FILES)
def test_other_files_of_a_study_are_not_waited_for_either(study, kind):
    job = finish(make(study))
    put(kind, part_folder(job) / "config.yaml")
    with pytest.raises(ConfigError, match=rf"config\.yaml is none of this version's .*is a {kind}"):
        read_job(part_folder(job))
    put(kind, part_folder(job) / "members.csv")
    with pytest.raises(OSError, match=f"is a {kind}, not a file"):
        join_tables(study / "members.csv", TABLES["members.csv"], [[Rows(part_folder(job) / "members.csv")]])
    assert not list(study.glob("*members.csv*"))
    put(kind, study / "modes.csv")
    with pytest.raises(ConfigError, match=rf"modes\.csv is no table of statements .*is a {kind}"):
        mode_study.tested_statements(study)


def test_a_command_says_in_one_line_what_is_no_file(run, tmp_path, tiny):
    assert run(*tiny).status == 0
    (done,) = (tmp_path / "out").glob("*/jobs/*/done.json")
    put("pipe", done)
    ended = run(*tiny)
    assert (ended.status, ended.out) == (1, "")
    (line,) = ended.err.splitlines()
    assert "done.json" in line
    assert "is a pipe, not a file" in line


def test_a_command_clears_the_torn_files_of_a_killed_one(run, tmp_path, tiny):
    assert run(*tiny).status == 0
    study = tmp_path / "out" / "first_look"
    begun = study / ".work" / "digits-mlp-width9-depth3-batch-0-0"
    (begun / "new").mkdir(parents=True)
    for path in (study / ".layers.csv.partial", begun / "new" / ".members.csv.partial"):
        path.write_text("torn")
    assert run(*tiny).status == 0
    assert not list(tmp_path.rglob("*.partial"))
