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

from experiments.study import finished, job_folder
from scripts.faults.operations import Point, operations, starts, try_point
from scripts.faults.study import Left, Study

folder = Path(sys.argv[1])
sample = operations("eio", Study(folder / "eio", Left({}, set())), random.Random(0), 2, 0)

is_done = job_folder.is_done
def is_done_or_unlucky(folder):
    try:
        return is_done(folder)
    except OSError:
        return False
finished.is_done = is_done_or_unlucky
start, seen = starts(folder)[1]
locks = [number for number, operation in enumerate(seen) if operation.call == "flock"]
looks = [number for number, operation in enumerate(seen) if operation.path.name == "done.json"]
number = next(number for number in looks if number > locks[1])  # in the job that is finished
planted = try_point(Point(start, "eio", number, seen[number]))
print(json.dumps([dataclasses.asdict(outcome) for outcome in (sample, planted)]))
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What becomes of two operations that fail, and of one with a fault of the harness planted."""
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
    sample, _ = outcomes
    assert sample["notes"] == []
    assert (sample["tried"], sample["survived"], sample["rows_lost"], sample["repeated"]) == (2, 2, 0, 0)


def test_a_finished_job_that_an_error_of_the_disk_would_cost_is_found(outcomes):
    _, planted = outcomes
    assert planted["survived"] == 0
    assert any("no longer done: gaussian-mlp-width4-" in note for note in planted["notes"])
