"""scripts.torture: faults of file operations are survived, and what does not survive them is found."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.faults.watch import why_not
from tests.places import ROOT

pytestmark = [
    pytest.mark.skipif(
        not sys.platform.startswith("linux") or bool(why_not()), reason="watches system calls"
    ),
    pytest.mark.long,
]
# In a process of its own, because it forks.
PROGRAM = """
import dataclasses, json, random, sys
from pathlib import Path

from experiments.jobs import launch
from experiments.study import inventory
from scripts.faults.operations import Point, operations, starts, try_point
from scripts.faults.study import Left, Study

folder = Path(sys.argv[1])
sample = operations("eio", Study(folder / "eio", Left({}, set())), random.Random(0), 2, 0)

is_damaged = inventory.is_damaged
def is_damaged_or_unlucky(folder):
    try:
        return is_damaged(folder)
    except OSError:
        return True
inventory.is_damaged = is_damaged_or_unlucky
launch._lacking = lambda job: job  # which looks once more, and would find them there
start, seen = starts(folder)[1]
looks = [
    number
    for number, (call, path, _) in enumerate(seen)
    if (call, path.name, path.parent.parent.name) == ("openat", "members.csv", "jobs")
]
planted = [try_point(Point(start, "eio", number, seen[number])) for number in looks[:2]]
print(json.dumps([[dataclasses.asdict(outcome) for outcome in tried] for tried in ([sample], planted)]))
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict]]:
    """What becomes of two operations that fail, and of some more with a fault of the harness planted."""
    folder: Path = tmp_path_factory.mktemp("torture").resolve()
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, folder],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    return json.loads(ended.stdout)


def test_a_command_one_of_whose_file_operations_fails_loses_nothing(outcomes):
    (sample,), _ = outcomes
    assert sample["notes"] == []
    assert (sample["tried"], sample["survived"], sample["rows_lost"], sample["repeated"]) == (2, 2, 0, 0)


def test_finished_members_that_an_error_of_the_disk_would_cost_are_missed(outcomes):
    _, planted = outcomes
    notes = [note for outcome in planted for note in outcome["notes"]]
    assert any("finished members trained again" in note for note in notes), notes
