"""Uploading offline runs with `wandb sync`, in a process of its own that cannot harm or hold up the study."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Timer

from experiments.loggers.offline import run_id, wandb_folder
from experiments.loggers.process import wandb_environment

BATCH = 200  # runs an upload process takes
HOPELESS = 10  # lines of errors, about two a run, after which the others are not tried
LOST = ("failed to log artifact", " giving up after ")  # in W&B's log
# By default W&B tries for hours, and a study would wait.
PATIENCE = {
    "WANDB_X_GRAPHQL_RETRY_MAX": "2",
    "WANDB_X_GRAPHQL_RETRY_WAIT_MAX_SECONDS": "5",
    "WANDB_X_GRAPHQL_TIMEOUT_SECONDS": "15",
    "WANDB_X_FILE_STREAM_RETRY_MAX": "2",
    "WANDB_X_FILE_STREAM_RETRY_WAIT_MAX_SECONDS": "5",
    "WANDB_X_FILE_STREAM_TIMEOUT_SECONDS": "15",
    "WANDB_X_FILE_TRANSFER_RETRY_MAX": "2",
    "WANDB_X_FILE_TRANSFER_RETRY_WAIT_MAX_SECONDS": "5",
    "WANDB_X_FILE_TRANSFER_TIMEOUT_SECONDS": "60",
}


class UploadError(Exception):
    """Some runs are not uploaded; the text says why, in one line."""


def is_uploaded(folder: Path) -> bool:
    """Say whether the offline run in `folder` is on a server; `wandb sync` keeps the same mark."""
    return _mark(folder).exists()


def upload(folders: Sequence[Path]) -> int:
    """Upload the offline runs in `folders` that are not uploaded yet and return how many that were.

    Uploading a run again, whoever did it before, replaces it: its identifier is its own.
    Raises UploadError at the first batch in which runs fail; what was uploaded until then is marked as such.
    """
    waiting = [folder for folder in folders if not is_uploaded(folder)]
    for start in range(0, len(waiting), BATCH):
        _upload_batch(waiting[start : start + BATCH])
    return len(waiting)


def _upload_batch(folders: Sequence[Path]) -> None:
    study = folders[0].absolute().parents[1]
    earlier = set(_logs(study))
    process = subprocess.Popen(
        [sys.executable, "-m", "wandb", "sync", *map(str, folders)],
        # Its logs lie beside the runs, not in a folder `wandb` wherever the command was typed.
        env=PATIENCE | wandb_environment() | {"WANDB_DIR": str(study)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    seconds = 60 + 2 * len(folders)
    timer = Timer(seconds, process.kill)
    timer.start()
    errors: list[str] = []
    failed: set[str | None] = set()  # identifiers of runs; None for errors that name no run
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if error := re.match(r"wandb: ERROR (?:\[(?:[^\]]*/)?([^\]/]+)\] )?(.*)", line):
                failed.add(error[1])
                errors.append(error[2])
            if len(errors) >= HOPELESS:
                break
        else:
            process.wait()
    finally:
        timer.cancel()
        process.kill()
        process.wait()
    for log in set(_logs(study)) - earlier:
        for run, error in _lost_files(log):
            failed.add(run)
            errors.append(error)
    for folder in folders:
        # W&B marks runs as uploaded of which it has just said that data are missing.
        if None in failed or run_id(folder) in failed:
            _mark(folder).unlink(missing_ok=True)
    missing = sum(not is_uploaded(folder) for folder in folders)
    if missing:
        ended = f"wandb sync ended with status {process.returncode} within {seconds} s"
        reason = " ".join(dict.fromkeys(errors[:2]))[:200] or ended
        raise UploadError(f"{missing} of {len(folders)} runs are not uploaded ({reason})")


def _logs(study: Path) -> list[Path]:
    return sorted(wandb_folder(study).glob("logs/debug-sync.*.log"))


def _lost_files(log: Path) -> Iterator[tuple[str, str]]:
    """Yield (run's identifier, error) of files and artifacts that did not arrive: W&B says it in its log alone."""
    for line in log.read_text(errors="replace").splitlines():
        if any(words in line for words in LOST):
            entry = json.loads(line)
            if entry["level"] == "ERROR" and "sync_path" in entry:  # else it is about no run
                yield run_id(Path(entry["sync_path"]).parent), entry["msg"].splitlines()[0]


def _mark(folder: Path) -> Path:
    return folder / f"run-{run_id(folder)}.wandb.synced"
