"""The command line: `python -m experiments.run +sweep=variance_shift`, or one job without a sweep.

Order of events: compose and check every job of the command, let Hydra launch them, merge their tables, and
print what came out. See `--help` for every key.
"""

import sys

import hydra
from omegaconf import DictConfig, OmegaConf


@hydra.main(config_path="../conf", config_name="config", version_base="1.3")
def launch(config: DictConfig) -> None:
    """Run one job, as Hydra launches it; skip it when its study holds it finished."""
    from experiments.config import make_job
    from experiments.job import run_job
    from experiments.study import is_finished

    job = make_job(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
    if not is_finished(job):
        run_job(job)


def main(arguments: list[str]) -> int:
    """Run the command line and return its exit status: 0, 1 when members failed, 2 for bad input."""
    if {"--help", "-h"} & set(arguments):
        from experiments.help import help_text

        print(help_text())
        return 0
    if any(argument.startswith("-") and argument not in ("-m", "--multirun") for argument in arguments):
        # Hydra's other flags (--cfg, --info, --resolve ...) only show things.
        launch()
        return 0

    from experiments.workers import start_server

    start_server()
    from filelock import FileLock, Timeout

    from experiments.checks import ConfigError
    from experiments.data import DataError
    from experiments.plan import plan_jobs
    from experiments.study import check_study, is_finished

    try:
        plan = plan_jobs(
            [argument for argument in arguments if not argument.startswith("-")],
            multirun=bool({"-m", "--multirun"} & set(arguments)),
        )
        check_study(plan.jobs, plan.swept_keys)
    except (ConfigError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    folder = plan.jobs[0].folder
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            finished = sum(is_finished(job) for job in plan.jobs)
            if finished:
                print(f"{finished} of {len(plan.jobs)} jobs are finished already in {folder}", file=sys.stderr)
            launch()
            return conclude(plan)
    except Timeout:
        print(f"error: study={folder.name}: another process is at work in {folder}", file=sys.stderr)
        return 2


def conclude(plan) -> int:
    """Merge the study's tables, print the summary and where everything lies; return the exit status."""
    import pandas as pd

    from analysis.summary import summary_table
    from experiments.study import merge_tables
    from experiments.summary import print_table

    folder = plan.jobs[0].folder
    merge_tables(folder)
    members, layers = pd.read_csv(folder / "members.csv"), pd.read_csv(folder / "layers.csv")
    print_table(summary_table(members, layers))
    for status, count in members.status.value_counts().items():
        print(f"{count} members {status}")
    print(f"tables: {folder / 'members.csv'}, {folder / 'layers.csv'}")
    print(f"report: python -m analysis.report {folder}")
    failed = members[members.status == "failed"]
    for (job, reason), rows in failed.groupby(["job", "reason"]):
        print(f"error: {len(rows)} members of {job} failed: {reason}", file=sys.stderr)
    return 1 if len(failed) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
