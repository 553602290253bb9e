"""What a running study does with its logger: the export of finished jobs, in a process of its own.

Whatever W&B does there, training and tables do not notice: an export that fails is tried once more at the study's
end, and is then one line on stderr that says how to make it up.
"""

import os
import subprocess
import sys
from pathlib import Path

from experiments.checks import ConfigError
from experiments.config import Job

ROOT = Path(__file__).resolve().parents[2]
SECONDS_FOR_LOGIN = 60
# wandb.login() waits 10 s for an answer; status 3: no key, 4: the server refuses it, or it can be none.
LOGIN = """
import sys, wandb
try:
    if not wandb.login(prompt=False, verify=True):
        sys.exit(3)
except wandb.errors.AuthenticationError as error:
    unreachable = "Failed to execute API request" in str(error)
    print(str(error), file=sys.stderr)
    sys.exit(0 if unreachable else 4)
"""


def check_login(job: Job) -> None:
    """Raise ConfigError when a job wants to log online and no server would let it.

    A server that does not answer may do so when the first job is finished: that is no error yet.
    """
    logger = job.config["logger"]
    if logger.get("mode") != "online":
        return
    try:
        login = subprocess.run(
            [sys.executable, "-c", LOGIN],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS_FOR_LOGIN,
        )
    except subprocess.TimeoutExpired:
        return
    if login.returncode == 3:
        raise ConfigError(
            "logger.mode=online: not logged in to W&B; run wandb login, or set logger.mode=offline"
        )
    if login.returncode == 4:
        reason = login.stderr.strip().splitlines()[-1]
        raise ConfigError(f"logger.mode=online: W&B refuses the key ({reason}); run wandb login --relogin")


def log_job(job: Job) -> None:
    """Log a job that has just written its tables; what fails now is made up by `log_study`."""
    if job.config["logger"]["name"] == "wandb":
        _export(job, ["--job", job.name])


def log_study(job: Job) -> None:
    """Log all that the study of `job` holds and its logger does not, and say so if that fails."""
    if job.config["logger"]["name"] == "wandb":
        ended = _export(job, [])
        if ended.returncode == 0:
            print("\n".join(ended.stdout.splitlines()[1:]))
            return
        lines = ended.stderr.strip().splitlines()
        reason = lines[-1].removeprefix("export_wandb: ") if lines else f"status {ended.returncode}"
        again = " ".join(["python -m scripts.export_wandb", str(job.folder), *_options(job)])
        print(f"W&B: {reason}; the tables are complete, and make it up: {again}", file=sys.stderr)


def _export(job: Job, more: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.export_wandb", str(job.folder), *_options(job), *more]
    return subprocess.run(
        command, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def _options(job: Job) -> list[str]:
    logger = job.config["logger"]
    entity = ["--entity", logger["entity"]] if logger["entity"] else []
    return ["--project", logger["project"], *entity, *(["--online"] if logger["mode"] == "online" else [])]


def _environment() -> dict[str, str]:
    """Return the environment of a process that imports this code, wherever it starts, and asks for W&B itself."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # The configuration decides what is online.
    kept = {key: value for key, value in os.environ.items() if key != "WANDB_MODE"}
    return kept | {"PYTHONPATH": os.pathsep.join(paths)}
