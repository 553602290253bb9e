"""How fast is a sweep? The harness against the one-at-a-time loop of tests/reference.py, in one run.

Prints, and writes as JSON, the speed of each width of the default sweep, of the whole command and of convolutions,
how it scales with the number of members, the way to the first step, peak memory, and what a
job costs beside its training.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from experiments.command import readers_may_leave
from experiments.jobs.workers import start_server
from scripts.benchmark.commands import many_jobs, one_step_seconds, whole_sweep
from scripts.benchmark.convolutions import bench_convolutions
from scripts.benchmark.sweep import bench_scaling, bench_width
from scripts.benchmark.timing import sgemm_rates


def print_rows(title: str, rows: list[dict]) -> None:
    """Print a list of like dicts as a table, a dict a column."""
    table = Table(title=title, title_justify="left", show_header=False)
    for key in rows[0]:
        values = [row[key] for row in rows]
        cells = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]
        table.add_row(key.replace("_", " "), *cells)
    Console().print(table)


def main() -> None:
    """Run the benchmark and print its tables, and JSON where asked."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="How fast is a sweep?")
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument(
        "--loop-members", type=int, default=4, help="members of each width that the plain loop trains"
    )
    parser.add_argument("--skip-whole", action="store_true", help="leave out the whole sweep as one command")
    parser.add_argument("--skip-scaling", action="store_true", help="leave out 1, 4, 16, 64, 256 members")
    parser.add_argument("--json", type=Path, help="write all figures to this file too")
    parser.add_argument("overrides", nargs="*", help="passed to the sweep, e.g. recipe.epochs=4")
    arguments = parser.parse_args()
    start_server()
    machine = {"torch": torch.__version__, "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    result: dict = {"machine": machine | sgemm_rates()}
    print_rows("This machine", [result["machine"]])
    with tempfile.TemporaryDirectory() as folder:
        widths = [
            bench_width(w, arguments.overrides, arguments.loop_members, folder) for w in arguments.widths
        ]
        for row in widths:
            row["percent_of_sgemm"] = 100 * row["gflops"] / result["machine"]["sgemm_gflops"]
        result["widths"] = widths
        print_rows("The default sweep against the one-at-a-time loop", widths)
        if not arguments.skip_whole:
            whole = whole_sweep(arguments.overrides, folder)
            loop = sum(row["loop_seconds_per_member"] * row["members"] for row in widths)
            result["whole_sweep"] = whole | {"loop_seconds": loop, "speed_up": loop / whole["seconds"]}
            print_rows("The whole sweep, from the command to written tables", [result["whole_sweep"]])
        if not arguments.skip_scaling:
            result["scaling"] = [
                row for w in arguments.widths for row in bench_scaling(w, arguments.overrides, folder)
            ]
            for w in arguments.widths:
                rows = [row for row in result["scaling"] if row["width"] == w]
                print_rows("Members side by side (5 epochs, with start-up and measuring)", rows)
        result["one_step_seconds"] = one_step_seconds(folder)
        print(f"From the command over imports and one step to tables: {result['one_step_seconds']:.1f} s")
        result["many_jobs"] = many_jobs(folder)
        print_rows("A study of many jobs of one step", [result["many_jobs"]])
    result["convolutions"] = bench_convolutions()
    print_rows("A small pre-activation ResNet, width 12, batch 128", [result["convolutions"]])
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    with readers_may_leave():
        main()
