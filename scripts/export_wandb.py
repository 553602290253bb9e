"""Make the W&B runs of a study from its tables: `python -m scripts.export_wandb outputs/STUDY [--online]`.

Runs lie in outputs/STUDY/wandb, where `wandb leet` shows them without a network and `wandb sync` uploads them.
Runs that are there already are not made again.
"""

import argparse
import logging
import shlex
import sys
from collections import Counter
from pathlib import Path

from analysis.summary import summary_table
from analysis.tables import read_study
from experiments.checks import one_line
from experiments.command import exit_status
from experiments.loggers.export import export_study
from experiments.loggers.offline import wandb_folder
from experiments.loggers.run_record import RunRecord
from experiments.loggers.study_record import study_record
from experiments.loggers.upload import UploadError
from experiments.settings.logger import wandb_settings


def main(arguments: list[str] | None = None) -> int:
    """Export a study; return the exit status: 0, 1 when runs could not be uploaded, 2 for bad input."""
    return exit_status(lambda: export(arguments), "export_wandb")


def export(arguments: list[str] | None) -> int:
    """Export the study that the arguments name; return the exit status."""
    defaults = wandb_settings()
    parser = argparse.ArgumentParser(
        prog="python -m scripts.export_wandb", description="Make the W&B runs of a study from its tables."
    )
    parser.add_argument("study", type=Path, help="the study's folder, for example outputs/variance_shift")
    parser.add_argument("--online", action="store_true", help="upload them too (log in first: wandb login)")
    parser.add_argument("--project", default=defaults.project, help="W&B's project (default: %(default)s)")
    parser.add_argument("--entity", default=defaults.entity, help="user or team that owns the project")
    parser.add_argument(
        "--job", action="append", help="only this job, a folder's name in STUDY/jobs; repeatable"
    )
    options = parser.parse_args(arguments)
    report, left_out = None, ""
    if options.job is None:
        try:
            report = report_record(options.study)
        except (ValueError, RecursionError) as error:  # such as jobs over which no mean can be taken
            left_out = one_line(error)
    wandb = wandb_settings(
        mode="online" if options.online else "offline", project=options.project, entity=options.entity
    )
    try:
        exported = export_study(options.study, wandb, options.job, report)
    except UploadError as error:
        print(f"export_wandb: {one_line(error)}", file=sys.stderr)
        return 1
    folder = wandb_folder(options.study)
    uploaded = f", {exported.uploaded} uploaded now" if options.online else ""
    print(f"{exported.runs} runs in {folder}: {exported.written} written now{uploaded}")
    if left_out:
        print(f"none for the study as a whole: {left_out}")
    print(f"look at them: {shlex.join(['wandb', 'leet', str(folder)])}")
    if not options.online:
        print(f"upload them:  {shlex.join(['wandb', 'sync', str(folder)])}")
    return 0


def report_record(folder: Path) -> RunRecord:
    """Return the run that shows a study as a whole.

    Raises StudyError, a ValueError, where the study's tables are none that means can be taken over.
    """
    study = read_study(folder)
    means = summary_table(study.members, study.layers, by=["width"])
    networks = [network.name for network in study.networks()]
    return study_record(folder, Counter(study.members["status"]), networks, means)


if __name__ == "__main__":
    logging.raiseExceptions = False  # W&B's own logs fail on a full disk too; one line says so
    sys.exit(main())
