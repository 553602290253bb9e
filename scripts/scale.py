"""What a large study costs: files, bytes, and the time and memory of merging it and of its report.

Trains a few members, copies their tables with other seeds until there are as many members as asked for, as the
jobs of a sharded sweep would have written them, and merges and reports that study, each in a process of its own:
`python -m scripts.scale FOLDER --members 100000`.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.command import readers_may_leave
from experiments.study.tables import TABLES

ROOT = Path(__file__).parents[1]
WIDTHS = (16, 64, 256)
SEEDS = 5  # of one job
COPIED = ("status", "job", "reason", "layer_name")  # and what identifies a row
MERGE = "import sys, pathlib, experiments.study.merge as m; m.merge_tables(pathlib.Path(sys.argv[1]))"


def main() -> int:
    """Write the study, measure, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m scripts.scale", description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder that is not there yet, for the study")
    parser.add_argument("--members", type=int, default=100_000)
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    template = trained(options.folder)
    study = options.folder / "outputs" / "large"
    members = write_study(template, study, options.members)
    files = [path for path in study.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    jobs = len(list((study / "jobs").iterdir()))
    print(f"{members} members in {jobs} jobs: {len(files)} files, {size / 1e6:.0f} MB")
    for name, command in {"merge": ["-c", MERGE], "report": ["-m", "analysis.report"]}.items():
        print(f"{name}: {measured([sys.executable, *command, str(study)])}", flush=True)
    for name in TABLES:
        if (study / name).exists():
            print(f"{name}: {(study / name).stat().st_size / 1e6:.0f} MB")
    return 0


def trained(folder: Path) -> Path:
    """Train one seed of the main study's members at width 16; return the folder of the job."""
    command = ["+sweep=variance_shift", "model.width=16", "members.seed=[0]", "study=template"]
    subprocess.run(
        [sys.executable, "-m", "experiments.run", *command], cwd=folder, env=environment(), check=True
    )
    (job,) = (folder / "outputs" / "template" / "jobs").iterdir()
    return job


def write_study(template: Path, study: Path, members: int) -> int:
    """Write the jobs of a study of at least so many members; return how many there are.

    The seeds of one job differ in their measurements by about 1 %, those of different jobs repeat.
    """
    per_job = SEEDS * len(pd.read_csv(template / "members.csv"))
    shards = -(-members // (per_job * len(WIDTHS)))
    for width in WIDTHS:
        whole = f"digits-mlp-width{width}-depth3-batch-{hashlib.sha256(bytes([width % 256])).hexdigest()[:8]}"
        texts = {
            name: one_job(template / name, width, whole) for name in TABLES if (template / name).exists()
        }
        for shard in range(1, shards + 1):
            folder = study / "jobs" / f"{whole}-shard{shard:0{len(str(shards))}d}of{shards}"
            folder.mkdir(parents=True)
            for name in ("config.yaml", "environment.json"):
                (folder / name).write_bytes((template / name).read_bytes())
            checksums = {}
            for name, text in texts.items():
                for seed in range(SEEDS):
                    text = text.replace(f"@{seed}@", str((shard - 1) * SEEDS + seed))
                (folder / name).write_text(text)
                checksums[name] = hashlib.sha256(text.encode()).hexdigest()
            (folder / "done.json").write_text(json.dumps({"job": folder.name, "tables": checksums}))
    return per_job * len(WIDTHS) * shards


def one_job(path: Path, width: int, whole: str) -> str:
    """Return a job's table as text, with @0@ to @4@ for its seeds."""
    table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    first = list(table.columns).index("batch_size") + 1
    copies = []
    for seed in range(SEEDS):
        random = np.random.default_rng([width, seed])
        copy = table.copy()
        for name in table.columns[first:]:
            if name not in COPIED and table[name].dtype == float:
                copy[name] = table[name] * np.exp(random.normal(0, 0.01, len(table)))
        copies.append(copy.assign(seed=f"@{seed}@", width=width, job=whole))
    return pd.concat(copies).to_csv(index=False)


def measured(command: list[str]) -> str:
    """Run a command; return its seconds and peak memory in words."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    ended = subprocess.run(command, env=environment(), stdout=subprocess.DEVNULL, check=False)
    seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # The largest child so far: commands are measured from small to large.
    return (
        f"{seconds:.1f} s (processor {cpu:.1f} s), {after.ru_maxrss / 1e6:.2f} GB, status {ended.returncode}"
    )


def environment() -> dict[str, str]:
    """Return the environment of a command that imports this code."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


if __name__ == "__main__":
    with readers_may_leave():
        sys.exit(main())
