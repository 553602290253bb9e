"""What a running study does with its logger, in processes of their own: show training, export finished jobs.

Whatever W&B does there, training and tables do not notice. That training is not shown is a line on stderr. An
export that fails is tried once more at the study's end, and is then a line that says how to make it up.
"""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from experiments.checks import ConfigError
from experiments.loggers.login import login_problem
from experiments.loggers.offline import run_folders
from experiments.loggers.process import run_python, wandb_environment
from experiments.loggers.run_record import study_run_id
from experiments.settings.config import Job

LONGEST = 3600  # seconds that an export may take; uploads give up by themselves long before
BEGINS_AFTER = 60  # seconds of training that are not shown: to start W&B is the work of one or two
PATIENCE = 30  # seconds that what shows training may take to end, once training has


def check_login(job: Job) -> None:
    """Raise ConfigError when a job wants to log online and W&B would not let it.

    A server that does not answer may do so when the first job is finished: that is no error yet.
    """
    if job.logger is not None and job.logger.mode == "online":
        problem = login_problem()
        if problem is not None and not problem.may_pass:
            raise ConfigError(f"logger.mode=online: {problem.text}, or set logger.mode=offline")


@contextmanager
def shown_live(job: Job, labels: Mapping[str, str]) -> Iterator[None]:
    """Show a study's training in a run of its own while the context lasts; `labels` are those of its parts."""
    if job.logger is None:
        yield
        return
    command = [sys.executable, "-m", "experiments.loggers.watch", str(job.folder), *_options(job)]
    command += ["--begins-after", str(BEGINS_AFTER)]
    pipe = subprocess.PIPE
    watch = subprocess.Popen(
        command, env=wandb_environment(), stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe, text=True
    )
    assert watch.stdin
    with suppress(OSError):  # it has ended already
        watch.stdin.write(json.dumps(labels if len(labels) > 1 else {}) + "\n")
        watch.stdin.flush()
    try:
        yield
    finally:  # that the pipe ends tells it that training has, however this process ends
        try:
            errors = watch.communicate(timeout=PATIENCE)[1]
        except subprocess.TimeoutExpired:
            watch.kill()
            watch.communicate()
            errors = f"no end within {PATIENCE} s"
        if watch.returncode != 0:
            reason = (errors.strip().splitlines() or [f"status {watch.returncode}"])[-1]
            print(f"W&B: training was not shown to its end ({reason})", file=sys.stderr)


def log_job(job: Job) -> None:
    """Log a job that has just written its tables; what fails now is made up by `log_study`."""
    if job.logger is not None:
        _export(job, ["--job", job.name])


def log_study(job: Job) -> None:
    """Log all that the study of `job` holds and its logger does not, and say so if that fails."""
    if job.logger is not None:
        failure, output = _export(job, [])
        if not failure:
            for folder in run_folders(job.folder).get(study_run_id("live", job.folder), []):
                shutil.rmtree(folder, ignore_errors=True)  # the members' runs have all of it
            print("\n".join(output.splitlines()[1:]))
            return
        again = shlex.join(["python", "-m", "scripts.export_wandb", str(job.folder), *_options(job)])
        print(f"W&B: {failure}; the tables are complete, and this makes it up: {again}", file=sys.stderr)


def _export(job: Job, more: list[str]) -> tuple[str, str]:
    """Run the export; return why it failed, nothing if it did not, and what it printed."""
    command = ["-m", "scripts.export_wandb", str(job.folder), *_options(job), *more]
    try:
        ended = run_python(command, LONGEST)
    except subprocess.TimeoutExpired:
        return f"no end of the export within {LONGEST} s", ""
    if ended.returncode == 0:
        return "", ended.stdout
    lines = ended.stderr.strip().splitlines() or [f"status {ended.returncode}"]
    ours = [line for line in lines if line.startswith("export_wandb: ")]  # W&B may have the last word
    return (ours or lines)[-1].removeprefix("export_wandb: "), ended.stdout


def _options(job: Job) -> list[str]:
    logger = job.logger
    assert logger is not None
    entity = ["--entity", logger.entity] if logger.entity else []
    return ["--project", logger.project, *entity, *(["--online"] if logger.mode == "online" else [])]
