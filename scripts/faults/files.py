"""Faults of files: no space for them, or somebody damaged them."""

import random
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.faults.study import TABLES, Outcome, Study


def full_disks(study: Study, draw: random.Random, count: int, seconds: float) -> Outcome:
    """Fill the disk at a random moment: a file system of a few kilobytes, which then grows."""
    outcome = Outcome()
    for _ in range(count):
        with small_disk(study.folder / "disk", draw.randrange(24, 120)) as disk:
            if disk is None:
                return Outcome(skipped="only root may mount a tmpfs")
            full = Study(disk, study.undisturbed)
            status, err = full.run()
            outcome.tried += 1
            if status == 0 or "No space left" not in err or "Traceback" in err:
                outcome.note(f"full: status {status}", err)
            subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
            status, err = full.run()
            full.judge(outcome, status, err)
    return outcome


def size_limits(study: Study, draw: random.Random, count: int, seconds: float) -> Outcome:
    """Forbid files beyond a random size, which fails in the middle of a write as a full disk does."""
    outcome = Outcome()
    for _ in range(count):
        study.clear()
        limit = draw.randrange(200, 10_000)
        status, err = study.run(prepare=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))  # noqa: B023
        outcome.tried += 1
        if status == 0 or "Traceback" in err:
            outcome.note(f"{limit} bytes: status {status}", err)
        status, err = study.run()
        study.judge(outcome, status, err)
    return outcome


def damages(study: Study, draw: random.Random, count: int, seconds: float) -> Outcome:
    """Cut, edit, empty or remove a random file of a finished study."""
    outcome = Outcome()
    study.run()
    for _ in range(count):
        part = draw.choice(study.parts)
        files = [part / name for name in (*TABLES, "done.json", "config.yaml")]
        # A configuration that was removed stays so: commands of the same setting do not need it.
        path = draw.choice([file for file in files if file.exists()] + [study.path / name for name in TABLES])
        content = path.read_bytes()
        place = draw.randrange(1, len(content) - 1)
        kind = draw.choice(["cut", "edit", "empty", "remove"])
        if kind == "remove":
            path.unlink()
        else:
            edited = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
            path.write_bytes({"cut": content[:place], "edit": edited, "empty": b""}[kind])
        outcome.tried += 1
        status, err = study.run()
        study.judge(outcome, status, err)
        if path.parent == part and path.suffix == ".csv" and "not as they were written" not in err:
            outcome.notes.append(f"{kind} {path.name}: not said")
    return outcome


@contextmanager
def small_disk(folder: Path, kibibytes: int) -> Iterator[Path | None]:
    """Yield a folder on a disk of that size; None when this user may not mount one."""
    folder.mkdir(exist_ok=True)
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if mount.returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
