"""A running study's training in a run of W&B: `experiments.loggers.live` starts this process, and ends it.

It reads the logs of the chunks every few seconds and adds what is new. Its curves are

    loss/GROUP, error/GROUP    training loss and test error in percent, over epochs
    shift/GROUP                the shift ratio over BN layers, as soon as a chunk has been measured

where a group is the members of a job that differ by their seed alone, and its curve that of the first chunk which
reports it. It works at low priority, and begins late: a study that is over sooner is not held up by it at all.
Nor does it import torch, which is more work than all the rest.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.checks import one_line
from experiments.loggers.offline import begin_run, wandb_folder
from experiments.loggers.run_record import EPOCH, LAYER, Row, RunRecord, study_run_id
from experiments.loggers.upload import PATIENCE
from experiments.settings.logger import WandbSettings, wandb_settings

FOLDER = "live"  # of a part's work folder, with the logs of its chunks
EVERY = 2.0  # seconds between two looks at the logs, and as long until what is logged is on disk
AXES = {"epoch": EPOCH, "layer": LAYER}
NICENESS = 10
LAST_WRITES = 10.0  # seconds


@dataclass
class Logs:
    """What is read of a study's logs; `labels` are those of its parts, by their names, where there are several."""

    study: Path
    labels: Mapping[str, str]
    _read: dict[Path, int] = field(default_factory=dict)  # bytes
    _shown: dict[str, tuple[Path, float]] = field(
        default_factory=dict
    )  # whose a curve is, and how far it came

    def new_rows(self) -> Iterator[Row]:
        """Yield what was logged since the last time, each row with its axis and the curves that it goes on."""
        for path in log_files(self.study):
            for line in self._new_lines(path):
                label = self.labels.get(path.parents[1].name, "")
                axis, at = AXES[line.pop("axis")], line.pop("at")
                curves = {
                    f"{section}/{f'{label} {group}'.strip()}": value
                    for section, values in line.items()
                    for group, value in values.items()
                }
                # A chunk whose process was killed begins again.
                new = {
                    name: value
                    for name, value in curves.items()
                    if (known := self._shown.get(name, (path, -1)))[0] == path and known[1] < at
                }
                self._shown |= dict.fromkeys(new, (path, at))
                if new:
                    yield {axis: at, **new}

    def _new_lines(self, path: Path) -> list[dict[str, Any]]:
        """Return the whole lines that were added to a file since the last time, all of one that began anew."""
        try:
            begin = self._read.get(path, 0)
            begin = begin if path.stat().st_size >= begin else 0
            with path.open("rb") as file:
                file.seek(begin)
                text, newline, _ = file.read().rpartition(b"\n")
        except OSError:  # its study has just been cleared up
            return []
        self._read[path] = begin + len(text) + len(newline)
        return [json.loads(line) for line in text.splitlines()]


def log_files(study: Path) -> list[Path]:
    """Return the logs of the chunks of a study that are trained, or were since its command began."""
    return sorted(study.glob(f".work/*/{FOLDER}/*.jsonl"))


def begin_live_run(study: Path, destination: WandbSettings) -> Any:
    """Begin the run that shows a study's training; the one of an earlier command goes."""
    record = RunRecord(
        run_id=study_run_id("live", study),
        name=f"{study.resolve().name}: live",
        group=study.resolve().name,
        job_type="live",
        tags=["live"],
        config={"study": study.resolve().name},
        history=[],
        axes={"error/*": EPOCH, "loss/*": EPOCH, "shift/*": LAYER},
        summary={},
    )
    wandb_folder(study).mkdir(exist_ok=True)
    for folder in wandb_folder(study).glob(f"*run-*-{record.run_id}"):
        _remove(folder)
    return begin_run(study, record, destination, x_transaction_log_flush_interval=EVERY)


def _remove(folder: Path) -> None:
    """Remove the run of an earlier command; of one that was killed W&B's service may write some moments longer."""
    end = time.monotonic() + LAST_WRITES
    while True:
        try:
            shutil.rmtree(folder)
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def watch(logs: Logs, begin: Callable[[], Any], ended: threading.Event, begins_after: float) -> None:
    """Add what is new to the run that `begin` begins, every so often, until training has `ended`."""
    ended.wait(begins_after)
    run = None
    while not ended.is_set():
        run = _add_rows(run, logs, begin)
        ended.wait(EVERY)
    if run is not None:  # else there is nothing to see any more
        _add_rows(run, logs, begin)
        folder = Path(run.settings.sync_dir)
        run.finish()
        if not run.offline:
            shutil.rmtree(folder, ignore_errors=True)


def _add_rows(run: Any, logs: Logs, begin: Callable[[], Any]) -> Any:
    for row in logs.new_rows():
        run = run or begin()
        run.log(row)
    return run


def main() -> int:
    """Show the training of a study until stdin ends; return the exit status: 1 for what W&B could not do."""
    parser = argparse.ArgumentParser(prog="python -m experiments.loggers.watch")
    parser.add_argument("study", type=Path)
    parser.add_argument("--online", action="store_true")
    parser.add_argument("--project", default=wandb_settings().project)
    parser.add_argument("--entity")
    parser.add_argument("--begins-after", type=float, default=0.0, metavar="SECONDS")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the study decides; its end is that of stdin
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    os.environ.update(PATIENCE | os.environ)
    wandb = wandb_settings(
        mode="online" if options.online else "offline", project=options.project, entity=options.entity
    )
    logs, ended = Logs(options.study, json.loads(sys.stdin.readline() or "{}")), threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    try:
        watch(logs, lambda: begin_live_run(options.study, wandb), ended, options.begins_after)
    except Exception as error:  # whatever W&B, its server or the network raise
        print(one_line(error) or type(error).__name__, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
