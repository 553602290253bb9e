"""A machine whose processes can share nothing, because /dev/shm is full or read-only."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.experiments.command_line import results
from tests.places import ROOT

IN_ITS_OWN = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
MOUNTS = {
    "read-only": "mount -t tmpfs -o ro tmpfs /dev/shm",
    "full": "mount -t tmpfs -o size=64k tmpfs /dev/shm && ! cat /dev/zero 2>/dev/null >/dev/shm/all",
    "room for some": "mount -t tmpfs -o size=20k tmpfs /dev/shm",
}


def with_shared_memory(state: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Python with these arguments, where /dev/shm is in that state; skips the test where nobody may mount."""
    try:
        subprocess.run([*IN_ITS_OWN, MOUNTS[state]], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a process may have no mounts of its own here: {error}")
    return subprocess.run(
        [*IN_ITS_OWN, f'{MOUNTS[state]} && exec "$@"', "sh", sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("state", MOUNTS)
def test_processes_are_not_started_where_they_can_share_nothing(tmp_path, state):
    count = "from experiments.jobs.workers import shared_counts; shared_counts(3)"
    ended = with_shared_memory(state, "-c", count, cwd=tmp_path)
    assert ended.returncode == 1
    assert "OSError" in ended.stderr.splitlines()[-1]


@pytest.mark.long
def test_without_shared_memory_one_process_does_all_and_says_so(tmp_path, run, tiny):
    ended = with_shared_memory(
        "read-only", "-m", "experiments.run", *tiny, "processes=2", "chunk=1", cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stderr
    one, end = ended.stderr.splitlines()
    assert "one process instead of 2, which need shared memory, /dev/shm ([Errno" in one
    assert end.startswith("[1/1] digits mlp width 8: 5 members, ")
    assert run(*tiny, "chunk=1", "study=alone").status == 0
    assert results(tmp_path / "out" / "first_look") == results(tmp_path / "out" / "alone")
