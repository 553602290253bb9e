"""Jobs that were made with other versions of the code or its packages are told apart."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.study.part import part_folder
from experiments.study.versions import other_versions
from tests.experiments.study.small_study import finish, make


def pretend(job, **changes):
    """Let a job's record say that it was made otherwise."""
    path = part_folder(job) / "environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_jobs_of_these_versions_are_not_mentioned(study):
    assert other_versions(study) is None
    finish(make(study))
    assert other_versions(study) is None


def test_jobs_of_another_commit_or_torch_are_counted_and_named(study):
    old, _ = finish(make(study)), finish(make(study, model__width=99))
    now = json.loads((part_folder(old) / "environment.json").read_text())
    packages = now["packages"]
    pretend(old, git_commit="0123456789abcdef", git_diff=None, packages=packages | {"torch": "1.0"})
    sentence = other_versions(study)
    assert sentence is not None
    assert sentence.startswith(
        f"{study}: 1 of the 2 parts there were made with other versions (commit 0123456789, now "
    )
    assert f"torch 1.0, now {packages['torch']}" in sentence
    assert "numpy" not in sentence


def test_a_dirty_checkout_is_another_version(study):
    job = finish(make(study))
    pretend(job, git_diff="0123456789abcdef")
    assert "changes since 0123456789abcdef, now " in str(other_versions(study))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"packages": 1}'])
def test_a_job_that_does_not_say_is_of_unknown_version(study, text):
    (part_folder(finish(make(study))) / "environment.json").write_text(text)
    assert "commit unknown, now " in str(other_versions(study))


CODE = """
import sys
sys.path.insert(0, sys.argv[1])
from experiments.study.environment import environment
import json
print(json.dumps(environment()))
"""


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def recorded(folder: Path) -> dict:
    ended = subprocess.run(
        [sys.executable, "-c", CODE, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder.parent,
    )
    return json.loads(ended.stdout)


def test_a_commit_is_recorded_only_where_the_checkout_tracks_this_code(tmp_path):
    from tests.places import ROOT

    project = tmp_path / "project"
    for name in ("study/environment.py", "study/files.py", "study/__init__.py", "checks.py", "__init__.py"):
        (project / "experiments" / name).parent.mkdir(parents=True, exist_ok=True)
        source = ROOT / "experiments" / name
        (project / "experiments" / name).write_text(source.read_text() if source.exists() else "")
    (project / "theirs.txt").write_text(
        "a project that has this code somewhere below, as an environment does"
    )
    git(project, "init")
    git(project, "add", "theirs.txt")
    git(project, "commit", "-m", "theirs")
    assert recorded(project)["git_commit"] is None

    git(project, "add", "experiments")
    git(project, "commit", "-m", "ours")
    clean = recorded(project)
    assert len(clean["git_commit"]) == 40
    assert clean["git_diff"] is None
    hashes = set()
    for text in ("one", "two"):
        (project / "theirs.txt").write_text(text)
        dirty = recorded(project)
        assert dirty["git_changes"] == "M theirs.txt"
        hashes.add(dirty["git_diff"])
    assert len(hashes) == 2
