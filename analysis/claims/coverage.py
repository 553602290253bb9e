"""How often intervals over few seeds cover, on real seeds: `python -m analysis.claims.coverage outputs/STUDY`.

Takes a study of many seeds of one network or more, for example

    python -m experiments.run +sweep=variance_shift study=coverage model.width=16 "members.seed=[$(seq -s, 0 79)]"

For each quantity that claims speak of and each kind of noise, n seeds are drawn with replacement, again and again.
The mean over all seeds counts as the truth. Printed is the share of 95 % intervals that hold it: Student's t, as
figures draw it, and the interval that claims test by. Where most seeds give the same number that one counts sign
flips as well, and has no end where seeds are too few for these. Where few seeds differ neither covers: what they
miss by is printed beside them.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from ..command import PACKAGE
from ..schema import PLACEMENTS
from ..select import KIND
from ..stats import LEVEL, seed_mean
from ..tables import StudyError, read_study
from .evidence import Evidence, evidence

SEEDS = (5, 10, 20)
LEAST = 40  # seeds from which to draw: with fewer, drawn ones are too alike
DRAWS = 400


def main(arguments: list[str] | None = None) -> int:
    """Print the table; return the exit status, 2 if there is no study with enough seeds."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {PACKAGE}.claims.coverage", description="Measure what intervals cover on real seeds."
    )
    parser.add_argument("study", type=Path, help=f"the folder of a study with {LEAST} seeds or more")
    options = parser.parse_args(arguments)
    try:
        samples = samples_of(evidence(read_study(options.study)))
        if not samples:
            raise StudyError(f"{options.study}: no network with {LEAST} seeds; see members.seed")
    except (StudyError, OSError) as error:
        print(f"coverage: {error}", file=sys.stderr)
        return 2
    print(coverage_table(samples).to_string(index=False))
    return 0


def samples_of(found: Evidence) -> dict[tuple[str, str], list[np.ndarray]]:
    """By quantity and placement: for each network and strength the values of all its seeds.

    Networks without noise have `none` for a placement, and only the quantities that need no other network.
    """
    members = found.where(norm="batch")
    members = members.assign(
        **{
            "won back by adjustment": members["test_error"] - members["test_error_adjusted"],
            "eval minus train mode": members["train_error_eval_mode"] - members["train_error_train_mode"],
        }
    )
    alone = ["shift", "test_error", "won back by adjustment", "eval minus train mode"]
    baseline = members[members["noise"] == "none"]
    tables = dict.fromkeys(alone, members)
    for name in alone[:2]:
        tables[f"{name}, less that without noise"] = found.differences(
            members[members["noise"] != "none"], baseline, name
        ).rename(columns={name: f"{name}, less that without noise"})
    tables |= dict.fromkeys(("total", "means", "variances", "stored_net"), members)
    samples: dict[tuple[str, str], list[np.ndarray]] = {}
    for name, table in tables.items():
        for key, group in table.dropna(subset=[name]).groupby([*found.network, *KIND], dropna=False):
            if len(group) >= LEAST:
                placement = str(key[-3])  # type: ignore[index]
                samples.setdefault((name, placement), []).append(group[name].to_numpy(dtype=float))
    return samples


def coverage_table(samples: dict[tuple[str, str], list[np.ndarray]]) -> pd.DataFrame:
    """A row per quantity and placement: means over settings, for each n of `SEEDS`.

    Columns: quantity, placement, settings; `t n` and `claims n`, the intervals of either that hold the truth, and
    `no end n`, those of the claims without an end, all in percent; `off n`, how far those of the claims that miss
    it end from it, in the quantity's unit.
    """
    rows = []
    for (quantity, placement), settings in sorted(samples.items(), key=_order):
        row: dict[str, object] = {"quantity": quantity, "placement": placement, "settings": len(settings)}
        for n in SEEDS:
            by_t, by_claims, endless, off = np.mean([coverage(values, n) for values in settings], axis=0)
            row |= {f"t {n}": f"{by_t:.0%}", f"claims {n}": f"{by_claims:.0%}"}
            row |= {f"no end {n}": f"{endless:.0%}", f"off {n}": f"{off:.2g}"}
        rows.append(row)
    return pd.DataFrame(rows)


def coverage(values: np.ndarray, n: int, draws: int = DRAWS) -> tuple[float, float, float, float]:
    """What 95 % intervals of n values, drawn with replacement, do with the mean of all values.

    Returns the shares of Student's intervals and of the claims' that hold it, the share of the claims' that have
    no end, and the mean distance from it of those that do not hold it, 0 where all do.
    """
    samples = np.random.default_rng(0).choice(values, (draws, n))
    truth = values.mean()
    half = stdtrit(n - 1, (1 + LEVEL) / 2) * samples.std(axis=1, ddof=1) / np.sqrt(n)
    by_t = np.abs(samples.mean(axis=1) - truth) <= half + 1e-9
    ends = np.array([seed_mean(sample).interval() for sample in samples])
    off = np.maximum(ends[:, 0] - truth, truth - ends[:, 1])
    missed = off > 1e-9
    distance = off[missed].mean() if missed.any() else 0.0
    return float(by_t.mean()), float(1 - missed.mean()), float(np.isinf(ends[:, 0]).mean()), float(distance)


def _order(item: tuple[tuple[str, str], list[np.ndarray]]) -> tuple[str, int]:
    (quantity, placement), _ = item
    return quantity, ("none", *PLACEMENTS).index(placement)


if __name__ == "__main__":
    sys.exit(main())
