"""Tries to make a small study lose something, with real faults, and counts what was lost.

After each fault the same command runs again. The fault is survived when that ends well and its tables are those
of an undisturbed run to the byte, but for the columns of time: complete, no row torn, none there twice.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from experiments.command import readers_may_leave
from scripts.faults.clocks import clocks
from scripts.faults.files import damages, full_disks, size_limits
from scripts.faults.operations import EVERY, KINDS, operations
from scripts.faults.processes import checkpoint_kills, kills, twins, worker_kills
from scripts.faults.study import Left, Outcome, Study

# Each does `count` faults to a study that takes so many `seconds` undisturbed, and says what became of it.
Fault = Callable[[Study, random.Random, int, float], Outcome]
FAULTS: dict[str, tuple[Fault, int]] = {
    "kills": (kills, 50),
    "checkpoint_kills": (checkpoint_kills, 10),
    "worker_kills": (worker_kills, 10),
    "full_disks": (full_disks, 5),
    "size_limits": (size_limits, 5),
    "damages": (damages, 20),
    "clocks": (clocks, 5),
    "twins": (twins, 3),
    **{f"operations_{kind}": (partial(operations, kind), EVERY) for kind in KINDS},
}


def main() -> int:
    """Run the faults and print a row of each; the status is 0 when all were survived."""
    parser = argparse.ArgumentParser(prog="scripts/torture", description=__doc__)
    parser.add_argument(
        "faults", nargs="*", help=f"which, or the first word of some; all without any: {', '.join(FAULTS)}"
    )
    parser.add_argument("--count", type=int, help="how often each; default: as in scripts/faults/README.md")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    chosen = [name for asked in options.faults for name in FAULTS if f"{name}_".startswith(f"{asked}_")]
    if unknown := [asked for asked in options.faults if not any(name.startswith(asked) for name in chosen)]:
        parser.error(f"{unknown[0]}: allowed is one of {', '.join(FAULTS)}")
    draw = random.Random(options.seed)
    torch.set_num_threads(1)
    with TemporaryDirectory(prefix="torture-") as folder:
        undisturbed = Study(Path(folder) / "undisturbed", Left({}, set()))
        begin = time.monotonic()
        status, err = undisturbed.run()
        seconds = time.monotonic() - begin
        assert status == 0, err
        expected = undisturbed.left()
        rows = sum(map(len, expected.tables.values()))
        print(f"undisturbed: {seconds:.1f} s, {len(undisturbed.parts)} parts, {rows} rows", flush=True)
        print(f"{'fault':<18}{'tried':>6}{'survived':>10}{'rows lost':>11}{'whole parts repeated':>24}")
        survived = True
        for name in chosen or FAULTS:
            fault, count = FAULTS[name]
            outcome = fault(Study(Path(folder) / name, expected), draw, options.count or count, seconds)
            print_outcome(name, outcome)
            survived &= outcome.tried == outcome.survived and not outcome.notes
    return 0 if survived else 1


def print_outcome(name: str, outcome: Outcome) -> None:
    """Print one kind of fault as a row, with its notes below."""
    if outcome.skipped:
        print(f"{name:<18}  skipped: {outcome.skipped}", flush=True)
        return
    print(
        f"{name:<18}{outcome.tried:>6}{outcome.survived:>10}{outcome.rows_lost:>11}{outcome.repeated:>24}",
        *(f"\n    {note}" for note in outcome.notes),
        flush=True,
    )


if __name__ == "__main__":
    with readers_may_leave():
        sys.exit(main())
