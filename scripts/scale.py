"""What a large study costs: files, bytes, and the time and memory of merging it and of its report.

Trains a few members, copies their tables with other seeds until there are as many members as asked for, as the
parts of a sharded sweep would have been written, and merges and reports that study, each in a process of its own:
`python -m scripts.scale FOLDER --members 100000`.
"""

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.schema import typed_row
from experiments.command import readers_may_leave
from experiments.members import member_of
from experiments.study.part import Part, write_record
from experiments.study.tables import TABLES, read_table
from experiments.study.versions import NUMBERS_VERSION

ROOT = Path(__file__).parents[1]
WIDTHS = (16, 64, 256)
SEEDS = 5  # of one part
COPIED = ("status", "job", "reason", "layer_name")  # and what identifies a row
MERGE = """
import pathlib, sys
from experiments.study import inventory, merge
merge.merge_tables(inventory.take_inventory(pathlib.Path(sys.argv[1])))
"""


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
    parts = len(list((study / "jobs").iterdir()))
    print(f"{members} members in {parts} parts: {len(files)} files, {size / 1e6:.0f} MB")
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
    """Write the parts of a study of at least so many members; return how many there are.

    The seeds of one part differ in their measurements by about 1 %, those of different parts repeat.
    """
    kinds = [member_of(typed_row(row)) for row in read_table(template / "members.csv")]
    per_part = SEEDS * len(kinds)
    parts = -(-members // (per_part * len(WIDTHS)))
    for width in WIDTHS:
        setting = (
            f"digits-mlp-width{width}-depth3-batch-{hashlib.sha256(bytes([width % 256])).hexdigest()[:8]}"
        )
        texts = {
            name: one_part(template / name, width, setting) for name in TABLES if (template / name).exists()
        }
        for part in range(parts):
            folder = study / "jobs" / f"{setting}-{part:08x}"
            seeds = range(part * SEEDS, (part + 1) * SEEDS)
            folder.mkdir(parents=True)
            for name in ("config.yaml", "environment.json"):
                (folder / name).write_bytes((template / name).read_bytes())
            for name, text in texts.items():
                for index, seed in enumerate(seeds):
                    text = text.replace(f"@{index}@", str(seed))
                (folder / name).write_text(text)
            finished = [replace(member, seed=seed) for seed in seeds for member in kinds]
            write_record(folder, Part(folder, finished, [], NUMBERS_VERSION), None, None)
    return per_part * len(WIDTHS) * parts


def one_part(path: Path, width: int, setting: str) -> str:
    """Return a part's table as text, with @0@ to @4@ for its seeds."""
    table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    first = list(table.columns).index("batch_size") + 1
    copies = []
    for seed in range(SEEDS):
        random = np.random.default_rng([width, seed])
        copy = table.copy()
        for name in table.columns[first:]:
            if name not in COPIED and table[name].dtype == float:
                copy[name] = table[name] * np.exp(random.normal(0, 0.01, len(table)))
        copies.append(copy.assign(seed=f"@{seed}@", width=width, job=setting))
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
