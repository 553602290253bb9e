"""What a run shows: a bar that fits a terminal, few lines in a log, and one table at the end."""

import itertools
import re
import time

import pandas as pd
import pytest

from experiments.jobs.progress import job_progress, jobs_progress
from experiments.study.summary import print_summary, shortened

NAME = "fashion_mnist-preresnet-width256-depth18-batch-0123abcd"


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")  # which makes rich take any file for a terminal
    monkeypatch.setenv("TERM", "xterm")


def test_the_bar_shows_all_its_numbers_in_80_columns(terminal, capsys):
    with job_progress(NAME, members=435, steps=30_000) as progress:
        progress.add_steps(123_456)
        progress.add_members(29)
    plain = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", capsys.readouterr().err)
    first, *shown = [line for line in re.split(r"[\r\n]+", plain) if line.strip()]
    assert first == f"{NAME}: 435 members of 30,000 steps"
    for piece in ("29/435 members", "123,456/13,050,000 steps", "0:00:0", "left"):
        assert piece in shown[-1]
    assert "…" not in plain
    assert max(map(len, shown)) <= 80
    assert shown[-1].count("━") > 5


def test_a_log_gets_two_lines_however_often_progress_is_made(capsys, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with job_progress(NAME, members=3, steps=1000) as progress:
        for _ in range(3000):
            progress.add_steps(1)
        progress.add_members(3)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0] == f"{NAME}: 3 members of 1,000 steps"
    assert re.fullmatch(rf"{NAME}: 3 members in \d+\.\d s", lines[1])


def tables(seeds: int, status: str = "ok") -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of a study of 1 + 12 + 8 + 8 kinds of noise, with numbers that say where they come from."""
    kinds = [("none", "none", 0.0)]
    for noise, strengths in {
        "dropout": [0.1, 0.3, 0.5, 0.7],
        "uout": [0.1, 1],
        "gaussian": [0.3, 1, 1.5, 3],
    }.items():
        kinds += itertools.product(["before_bn", "before_weight", "after_last_bn"], [noise], strengths)
    rows = [
        {
            **{"data": "digits", "model": "mlp", "width": 64, "depth": 3, "norm": "batch"},
            **{"placement": placement, "noise": noise, "strength": strength, "noise_variance": strength},
            **{"seed": seed, "lr": 0.1, "weight_decay": 0.0, "batch_size": 64, "status": status, "steps": 1},
            **{"test_error": 2.0 + seed, "test_error_adjusted": 1.5, "job": "job"},
        }
        for (placement, noise, strength), seed in itertools.product(kinds, range(seeds))
    ]
    members = pd.DataFrame(rows)
    layers = members.drop(columns=["status"]).assign(layer_index=1, shift_ratio=0.75, local_ratio=0.5)
    layers = layers.assign(local_ratio_exact=0.625, layer_name="bn", shift_magnitude=4 / 3)
    if status != "ok":
        layers = layers.head(0)
    return members, layers


def test_the_table_at_the_end_fits_80_columns_and_names_every_number(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    members, layers = tables(seeds=2)
    print_summary(members, layers)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    (row,) = [line.split() for line in lines if line.startswith("before_weight dropout 0.5")]
    # half of Student's t interval over test errors 2 and 3: 12.706 * 0.5
    assert row == [
        "before_weight",
        "dropout",
        "0.5",
        "0.750",
        "±0.000",
        "0.500",
        "0.625",
        "2.5",
        "±6.4",
        "1.5",
    ]
    assert lines[-1] == f"{len(members)} members ok"


def test_a_long_table_is_cut_to_the_first_families_and_says_so(capsys):
    members, layers = tables(seeds=1)
    print_summary(members, layers)
    out = capsys.readouterr().out
    assert len([line for line in out.splitlines() if " dropout " in line]) == 12
    assert "± " not in out.split("seeds.")[1]  # a single seed has no interval
    assert "uout 0.1" in out
    assert "gaussian 3" not in out
    assert "and 12 rows of gaussian: see the report" in out
    kept = shortened(pd.DataFrame({"noise": ["gaussian"] * 30}))
    assert len(kept) == 30


def test_a_study_without_any_result_has_a_table_all_the_same(capsys):
    members, layers = tables(seeds=2, status="failed")
    print_summary(members, layers)
    out = capsys.readouterr().out
    assert f"{len(members)} members failed" in out
    assert "before_bn" in out


def test_jobs_elsewhere_are_counted_as_they_end(capsys):
    ended = iter([0, 1, 1, 3])
    with jobs_progress(3, lambda: next(ended, 3), seconds=0.01):
        time.sleep(0.3)
    assert capsys.readouterr().err == "1 of 3 jobs have ended\n3 of 3 jobs have ended\n"
