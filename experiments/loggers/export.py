"""From a study's tables to its runs in W&B; whoever logs, while a study runs or long after, comes through here."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from experiments.checks import ConfigError
from experiments.loggers.member_records import member_records
from experiments.loggers.offline import wandb_folder, write_missing_runs
from experiments.loggers.run_record import RunRecord
from experiments.loggers.upload import upload
from experiments.members import Member
from experiments.settings.logger import WandbSettings
from experiments.study.inventory import take_inventory
from experiments.study.merge import kept_members
from experiments.study.part import is_damaged


class ExportError(ConfigError):
    """There is nothing to export, or its files cannot be read or written."""


class Exported(NamedTuple):
    """What an export did.

    Attributes:
        runs: how many runs there are now.
        written, uploaded: how many of them were written, and uploaded, just now.
    """

    runs: int
    written: int
    uploaded: int


def export_study(
    study: Path,
    destination: WandbSettings,
    jobs: Sequence[str] | None = None,
    report: RunRecord | None = None,
) -> Exported:
    """Make the runs of W&B that a study lacks: one for each member, and `report`, one for the study as a whole.

    A run that is there already with the same content is left alone; one with other content, or that a killed
    process left incomplete, is replaced. So it does no harm to export twice, or two processes at once.

    Args:
        study: the study's folder.
        destination: project and entity of the runs; in mode online, what is not uploaded yet is.
        jobs: the names of the parts to export; None for all.
        report: the run of job type `report`; None for none.

    Raises:
        ConfigError: no job's tables or configuration to read, or a folder that cannot be written.
        UploadError: the runs are all written, but not all of them are uploaded.
    """
    names = sorted(path.parent.name for path in study.glob("jobs/*/members.csv")) if jobs is None else jobs
    whole = [name for name in names if not is_damaged(study / "jobs" / name)]
    if not whole:
        raise ExportError(
            f"{study}: no job's tables in {study / 'jobs'}; has any job of this study finished?"
        )
    exported = []
    for name in whole:
        try:
            records = member_records(study / "jobs" / name, _shown(study, name))
        except ConfigError:
            raise
        except (OSError, ValueError, LookupError, RecursionError) as error:
            raise ExportError(f"{study / 'jobs' / name}: not readable as a job's folder ({error})") from error
        exported.append(_export_records(study, name, records, destination))
    if report is not None:
        exported.append(_export_records(study, "report", [report], destination))
    runs, written, uploaded = (sum(counts) for counts in zip(*exported, strict=True))
    return Exported(runs, written, uploaded)


def _shown(study: Path, name: str) -> set[Member] | None:
    """Return the members of a part whose rows the study shows; None, all, for one of an earlier version."""
    parts = take_inventory(study, name.rpartition("-")[0]).parts
    by_name = {part.folder.name: set(members) for part, members in kept_members(parts)}
    return by_name.get(name, set()) if name in {part.folder.name for part in parts} else None


def _export_records(
    study: Path, name: str, records: Sequence[RunRecord], destination: WandbSettings
) -> tuple[int, int, int]:
    """Write and upload the runs of one job, or of the study as a whole; only one process at a time does."""
    try:
        wandb_folder(study).mkdir(exist_ok=True)
        with FileLock(wandb_folder(study) / f".{name}.lock"):
            folders, written = write_missing_runs(study, records, destination)
            return len(folders), written, upload(folders) if destination.mode == "online" else 0
    except OSError as error:
        raise ExportError(f"{wandb_folder(study)}: cannot be written ({error.strerror or error})") from error
