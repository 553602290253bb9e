"""Make the W&B runs of a study from its tables: `python -m scripts.export_wandb outputs/STUDY [--online]`.

Runs lie in outputs/STUDY/wandb, where `wandb leet` shows them without a network and `wandb sync` uploads them.
Runs that are there already are not made again.
"""

import argparse
import logging
import sys
from pathlib import Path

from experiments.checks import ConfigError
from experiments.loggers.export import ExportError, export_study
from experiments.loggers.offline import wandb_folder
from experiments.loggers.upload import UploadError
from experiments.settings.logger import Destination, check_logger_config, wandb_defaults


def main(arguments: list[str] | None = None) -> int:
    """Export a study; return the exit status: 0, 1 when runs could not be uploaded, 2 for bad input."""
    defaults = wandb_defaults()
    parser = argparse.ArgumentParser(
        prog="python -m scripts.export_wandb", description="Make the W&B runs of a study from its tables."
    )
    parser.add_argument("study", type=Path, help="the study's folder, for example outputs/variance_shift")
    parser.add_argument("--online", action="store_true", help="upload them too (log in first: wandb login)")
    parser.add_argument("--project", default=defaults["project"], help="W&B's project (default: %(default)s)")
    parser.add_argument("--entity", default=defaults["entity"], help="user or team that owns the project")
    parser.add_argument(
        "--job", action="append", help="only this job, a folder's name in STUDY/jobs; repeatable"
    )
    options = parser.parse_args(arguments)
    try:
        check_logger_config({**defaults, "project": options.project, "entity": options.entity})
        exported = export_study(
            options.study,
            Destination(options.project, options.entity),
            online=options.online,
            jobs=options.job,
        )
    except (ConfigError, ExportError) as error:
        print(f"export_wandb: {error}", file=sys.stderr)
        return 2
    except UploadError as error:
        print(f"export_wandb: {error}", file=sys.stderr)
        return 1
    folder = wandb_folder(options.study)
    uploaded = f", {exported.uploaded} uploaded now" if options.online else ""
    print(f"{exported.runs} runs in {folder}: {exported.written} written now{uploaded}")
    if exported.left_out:
        print(f"none for the study as a whole: {exported.left_out}")
    print(f"look at them: wandb leet {folder}")
    if not options.online:
        print(f"upload them:  wandb sync {folder}")
    return 0


if __name__ == "__main__":
    logging.raiseExceptions = False  # W&B's own logs fail on a full disk too; one line says so
    sys.exit(main())
