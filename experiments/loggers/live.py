"""What a running study does with its logger: the export of finished jobs, in a process of its own.

Whatever W&B does there, training and tables do not notice: an export that fails is tried once more at the study's
end, and is then one line on stderr that says how to make it up.
"""

import shlex
import subprocess
import sys

from experiments.checks import ConfigError
from experiments.loggers.login import login_problem
from experiments.loggers.process import run_python
from experiments.settings.config import Job

LONGEST = 3600  # seconds that an export may take; uploads give up by themselves long before


def check_login(job: Job) -> None:
    """Raise ConfigError when a job wants to log online and W&B would not let it.

    A server that does not answer may do so when the first job is finished: that is no error yet.
    """
    if job.logger is not None and job.logger.mode == "online":
        problem = login_problem()
        if problem is not None and not problem.may_pass:
            raise ConfigError(f"logger.mode=online: {problem.text}, or set logger.mode=offline")


def log_job(job: Job) -> None:
    """Log a job that has just written its tables; what fails now is made up by `log_study`."""
    if job.logger is not None:
        _export(job, ["--job", job.name])


def log_study(job: Job) -> None:
    """Log all that the study of `job` holds and its logger does not, and say so if that fails."""
    if job.logger is not None:
        failure, output = _export(job, [])
        if not failure:
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
