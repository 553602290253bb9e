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

from scripts.faults.operations import operations
from scripts.faults.study import Left, Study

folder = Path(sys.argv[1])
sample = operations("eio", Study(folder / "eio", Left({}, set())), random.Random(0), 2, 0)

print(json.dumps([dataclasses.asdict(sample)]))
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What becomes of two operations that fail."""
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
    (sample,) = outcomes
    assert sample["notes"] == []
    assert (sample["tried"], sample["survived"], sample["rows_lost"], sample["repeated"]) == (2, 2, 0, 0)
