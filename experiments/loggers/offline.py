"""Writing runs of W&B to a study's folder, without network or account.

STUDY/wandb/offline-run-TIME-ID/run-ID.wandb    a run, as `wandb leet` shows it and `wandb sync` uploads it
STUDY/wandb/offline-run-TIME-ID/record.sha256   what it holds, written when it is complete
"""

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.checks import regular_file
from experiments.loggers.run_record import RunRecord, plain
from experiments.settings.logger import WandbSettings

if TYPE_CHECKING:
    import wandb
    from wandb.plot.custom_chart import CustomChart

DIGEST = "record.sha256"
# Our tables say all of it, or it would only tell about the machine that exports: 0.02 s a run instead of 0.08.
LEAN = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "init_timeout": 30.0,
    "silent": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
    "x_service_wait": 120.0,  # a busy machine takes its time to start W&B's service
    # No link to the latest run, which other programs would take for one more run.
    "symlink": False,
    "use_dot_wandb": False,
}
# What W&B makes all the same beside a run, and nobody reads once it is written: its own logs, and room for code.
OF_NO_USE = ("logs", "tmp")


def wandb_folder(study: Path) -> Path:
    """Return where a study's runs of W&B lie."""
    return study / "wandb"


def run_folders(study: Path) -> dict[str, list[Path]]:
    """Return the folders of offline runs by their run's identifier, incomplete ones of killed processes too."""
    folders: dict[str, list[Path]] = {}
    for path in sorted(wandb_folder(study).glob("offline-run-*-*")):
        folders.setdefault(run_id(path), []).append(path)
    return folders


def run_id(folder: Path) -> str:
    """Return the identifier of the run in a folder named offline-run-TIME-ID."""
    return folder.name.split("-", 3)[3]


def write_missing_runs(
    study: Path, records: Iterable[RunRecord], destination: WandbSettings
) -> tuple[list[Path], int]:
    """Write each record that the study's folder does not hold as it is now; replace older and incomplete ones.

    Returns the folders of all records' runs, and how many of them were written.
    """
    there = run_folders(study)
    folders, written = [], 0
    for record in records:
        digest = f"{record.digest()} {destination.project} {destination.entity or ''}".rstrip()
        own = there.get(record.run_id, [])
        if len(own) == 1 and _read(own[0] / DIGEST) == digest:
            folders.append(own[0])
            continue
        for folder in own:
            shutil.rmtree(folder)
        folder = write_run(study, record, destination)
        (folder / DIGEST).write_text(digest)
        folders.append(folder)
        written += 1
    return folders, written


def write_run(study: Path, record: RunRecord, destination: WandbSettings) -> Path:
    """Write one offline run and return its folder. Raises OSError."""
    try:
        return _write_run(study, record, destination)
    except OSError:
        raise
    except Exception as error:  # W&B's service ends when its disk is full, and many types tell of that
        raise OSError(f"{type(error).__name__} {' '.join(str(error).split())}".rstrip()) from error


def begin_run(study: Path, record: RunRecord, destination: WandbSettings, **settings: Any) -> "wandb.Run":
    """Begin a run in mode `destination.mode`, with all of its record that does not come later."""
    import wandb

    run = wandb.init(
        mode=destination.mode,  # type: ignore[arg-type]
        dir=study,
        project=destination.project,
        entity=destination.entity,
        id=record.run_id,
        name=record.name,
        group=record.group,
        job_type=record.job_type,
        tags=record.tags,
        notes=record.notes,
        config=record.config,
        resume=None,
        reinit="create_new",
        settings=wandb.Settings(**LEAN | settings),  # type: ignore[arg-type]
    )
    for axis in sorted(set(record.axes.values())):
        run.define_metric(axis, hidden=True)
    for key, axis in record.axes.items():
        run.define_metric(key, step_metric=axis)
    return run


def _write_run(study: Path, record: RunRecord, destination: WandbSettings) -> Path:
    import wandb
    from wandb.plot.custom_chart import CustomChart

    run = begin_run(study, record, replace(destination, mode="offline"))
    folder = Path(run.settings.sync_dir)
    for row in record.history:
        run.log(dict(row))
    if media := _media(record):
        for key, value in media.items():
            # A table that is bound to its run already is a file of the run and nothing else; W&B would make it an
            # artifact too, with a copy in the home folder until somebody uploads it.
            table, table_key = (
                (value.table, f"{key}_table") if isinstance(value, CustomChart) else (value, key)
            )
            if isinstance(table, wandb.Table):
                table.bind_to_run(run, table_key, run.step)
        run.log(media)
    for kind, paths in record.artifacts.items():
        artifact = wandb.Artifact(f"{plain(record.group)}-{kind}", type=kind)
        for path in paths:
            # As it is: a copy would lie in the home folder until somebody uploads it.
            artifact.add_file(str(path.resolve()), str(path.relative_to(study)), policy="immutable")
        run.log_artifact(artifact)
    run.summary.update(record.summary)
    run.finish(exit_code=record.exit_code)
    for name in OF_NO_USE:
        shutil.rmtree(folder / name, ignore_errors=True)
    return folder


def _media(record: RunRecord) -> "dict[str, wandb.Table | wandb.Image | CustomChart]":
    import wandb

    media: dict[str, wandb.Table | wandb.Image | CustomChart] = {}
    for key, rows in record.tables.items():
        columns: list = list(dict.fromkeys(column for row in rows for column in row))
        media[key] = wandb.Table(
            columns=columns, data=[[row.get(column) for column in columns] for row in rows]
        )
    for key, lines in record.pictures.items():
        media[key] = wandb.plot.line_series(
            xs=[[x for x, _ in points] for points in lines.lines.values()],
            ys=[[y for _, y in points] for points in lines.lines.values()],
            keys=list(lines.lines),
            title=lines.title,
            xname=lines.x_name,
        )
    for key, path in record.images.items():
        media[key] = wandb.Image(str(path))
    return media


def _read(path: Path) -> str | None:
    try:
        return regular_file(path).read_text()
    except OSError:
        return None
