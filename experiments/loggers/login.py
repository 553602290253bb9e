"""Whether W&B would let us in, asked in a process of its own."""

import subprocess
from typing import NamedTuple

from experiments.loggers.process import run_python

SECONDS = 60
# wandb.login() waits 10 s for an answer. Status 3: no key; 4: it can be none, or is refused; 5: no answer.
LOGIN = """
import sys, wandb
try:
    if not wandb.login(prompt=False, verify=True):
        sys.exit(3)
except wandb.errors.AuthenticationError as error:
    print(str(error), file=sys.stderr)
    sys.exit(5 if "Failed to execute API request" in str(error) else 4)
"""


class LoginProblem(NamedTuple):
    """Why W&B would not let us in: in words with the mend, and whether waiting may be one."""

    text: str
    may_pass: bool


def login_problem() -> LoginProblem | None:
    """Return why W&B would not let us in; None when it would."""
    try:
        login = run_python(["-c", LOGIN], SECONDS)
    except subprocess.TimeoutExpired:
        return LoginProblem(f"W&B does not answer within {SECONDS} s", may_pass=True)
    if login.returncode == 0:
        return None
    if login.returncode == 3:
        return LoginProblem("not logged in to W&B; run wandb login", may_pass=False)
    reason = (login.stderr.strip().splitlines() or [f"status {login.returncode}"])[-1]
    if login.returncode == 4:
        return LoginProblem(f"W&B refuses the key ({reason}); run wandb login --relogin", may_pass=False)
    return LoginProblem(f"W&B does not answer ({reason})", may_pass=True)
