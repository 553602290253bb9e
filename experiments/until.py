"""A study that goes on by itself until its claims are decided: `until=decided`.

Verdicts are looked at with 10, 20 and 40 seeds, numbers declared beforehand. Each look decides a claim wrongly in
at most a third of 5 % of studies, so that all three together do in at most 5 % (Bonferroni), whenever the study
stops. UNTIL, a file in the study, says so to whoever asks for its verdicts later.
"""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from analysis.schema import UNTIL
from experiments.checks import ConfigError
from experiments.settings.plan import Plan, plan_jobs
from experiments.settings.until import LOOKS
from experiments.study.files import write_text
from experiments.study.inventory import take_inventory


def plans(overrides: Sequence[str], multirun: bool) -> Iterator[Plan]:
    """Yield the plan of a command line; with until=decided one a look, until the study that it makes is decided.

    Whoever trains the members of one asks for the next. Raises ConfigError where such a command chooses seeds too,
    or a claim was named that such a study cannot test.
    """
    plan = plan_jobs(overrides, multirun)
    if (until := plan.jobs[0].until) is None:
        yield plan
        return
    for argument in overrides:
        if _key(argument) == "members.seed":
            raise ConfigError(f"{argument}: until=decided chooses the seeds; leave it out")
    for seeds in until.looks:
        numbers = ",".join(map(str, range(seeds)))
        plan = plan_jobs([*overrides, f"members.seed=[{numbers}]"], multirun)
        if _seeds_there(plan) > seeds and seeds < until.most:
            continue  # this look was taken before
        yield plan
        write_text(plan.folder / UNTIL, json.dumps({"looks": LOOKS}))
        undecided = look(plan.folder, until.claims)
        if not undecided:
            print(f"until: decided with {seeds} seeds", file=sys.stderr)
            return
        print(f"until: {', '.join(undecided)} undecided with {seeds} seeds", file=sys.stderr)


def look(study: Path, claims: Sequence[str] | None) -> list[str]:
    """Return which claims a study does not decide, of those named, or of all that it can test.

    Raises ConfigError for a named one that it cannot test, and for a study without verdicts.
    """
    with TemporaryDirectory() as folder:
        # Another process: what trains knows nothing of what judges.
        command = [sys.executable, "-m", "analysis.claims", str(study), "--out", folder]
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode != 0:
            raise ConfigError(f"until=decided: {ended.stderr.strip().splitlines()[-1]}")
        with (Path(folder) / "claims.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    for row in rows:
        if claims and row["claim"] in claims and row["verdict"] == "not testable":
            raise ConfigError(
                f"until.claims={row['claim']}: this study cannot test it ({row['missing']}); what it trained stays"
            )
    asked = claims or {row["claim"] for row in rows}
    undecided = [
        row["claim"] for row in rows if row["claim"] in asked and row["outcome"].startswith("undecided")
    ]
    return [*dict.fromkeys(undecided)]


def _key(argument: str) -> str:
    return argument.lstrip("+~").partition("=")[0]


def _seeds_there(plan: Plan) -> int:
    """Return how many seeds, counted from 0, a study has begun of what a plan wants."""
    finished = take_inventory(plan.folder).finished
    return 1 + max(
        (member.seed for job in plan.jobs for member in finished.get(job.setting_name, ())), default=-1
    )
