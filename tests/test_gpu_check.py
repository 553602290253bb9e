"""scripts.gpu_check: it runs to its end on a CPU, says what it left out, and sees wrong tables."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from experiments.study.tables import read_table
from scripts.gpu_check import FLOAT32, PARTS, Check, compare, largest_difference, main
from tests.places import ROOT


def checked(out: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], dict[str, list[dict]]]:
    """How `--device cpu --tiny` ended, and the tables of its JSON."""
    command = [sys.executable, "-m", "scripts.gpu_check", "--device", "cpu", "--tiny", "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [*command, *arguments], env=environment, cwd=out.parent, capture_output=True, text=True, check=False
    )
    return ended, json.loads((out / "gpu_check.json").read_text(encoding="utf-8"))


@pytest.mark.long
def test_every_part_runs_on_a_cpu_and_its_tables_are_those_of_its_json(tmp_path):
    ended, tables = checked(tmp_path / "found", "--seconds", "99999")  # however busy the machine is
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
    assert "right; tables are in" in ended.stdout.splitlines()[-1]
    assert {"draws", "correct", "loops", "convolutions", "paper"} < set(tables)
    assert not {"faults", "skipped"} & set(tables)
    for name, rows in tables.items():
        written = read_table(tmp_path / "found" / f"{name}.csv")
        assert [row["what"] for row in written] == [row["what"] for row in rows]
        assert all(row["card"] == "none: a CPU" and row["torch"] == torch.__version__ for row in rows)
        assert ended.stdout.count(f" s  {name}: what ") == len(rows)
    assert {row["what"] for row in tables["correct"]} == {
        "mlp",
        "convnet",
        "mlp, two processes",
        "convnet, bfloat16",
    }
    assert all(row["is_right"] for row in [*tables["draws"], *tables["correct"]])
    for name in ("loops", "convolutions", "paper"):
        for row in tables[name]:
            assert row["ms_per_member_step"] > 0
            assert row["way"].startswith("plain") or row["times_plain"] > 0
    assert {row["placement"] for row in tables["trained_layers"]} == {"none", "before_bn", "before_weight"}


def test_what_no_time_is_left_for_is_said(tmp_path):
    ended, tables = checked(tmp_path / "found", "--seconds", "0")
    assert ended.returncode == 0, ended.stderr
    assert [row["what"] for row in tables["skipped"]] == [f"the rest of {name}" for name in PARTS]


def test_tables_that_differ_are_seen(tmp_path):
    check = Check(torch.device("cpu"), True, tmp_path, tmp_path)
    layers = [{"layer_name": "a", "train_var": 1.0, "moving_var": 2.0}]
    expected = {"members.csv": [{"seed": 0, "test_error": 3.0, "seconds": 9.0}], "layers.csv": layers}

    def is_seen(table: str, **changed: float | None) -> list[bool]:
        (row,) = expected[table]
        other = {name: value for name, value in (row | changed).items() if value is not None}
        compare(check, "mlp", expected | {table: [other]}, expected, FLOAT32)
        return [not row["is_right"] for row in check.tables["correct"][-2:]]

    assert is_seen("members.csv", seconds=1.0) == [False, False]
    assert check.is_right
    assert is_seen("members.csv", test_error=9.0) == [True, False]
    assert is_seen("layers.csv", moving_var=2.1) == [False, True]
    assert is_seen("layers.csv", moving_var=None) == [False, True]
    # A number that is none is seen behind others too, which Python's max() of it and them is not.
    pairs = [(1.0, 1.0), (math.nan, 1.0), (2.0, 2.0)]
    assert largest_difference(pairs) == math.inf
    assert largest_difference([(math.nan, math.nan), (1.0, 1.5)]) == 0.5
    assert not check.is_right
    assert json.loads((tmp_path / "gpu_check.json").read_text())["correct"][-1]["difference"] is None


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--device", "gpu"], "--device=gpu: allowed is cuda, cuda:NUMBER or cpu"),
        (["--device", "cpu", "--seconds", "long"], "--seconds=long: allowed is a whole number"),
        (
            ["--device", "cpu", "--parts", "loops,all"],
            "--parts=all: allowed is one or several of correct,loops",
        ),
        (["--device", "cpu", "--out", "."], "--out=.: allowed is a folder that is not there yet"),
    ],
)
def test_bad_input_is_one_line(arguments, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--out", "found", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"gpu_check: {reason}")
    assert not [*tmp_path.iterdir()]


def test_images_that_are_not_there_are_bad_input(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VARIANCE_SHIFT_DATA", str(tmp_path / "none"))
    assert main(["--device", "cpu", "--tiny", "--out", str(tmp_path / "found")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cifar-10" in line
    assert not [*tmp_path.iterdir()]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line_says_so(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "found")]) == 1
    assert capsys.readouterr().err == "gpu_check: --device=cuda: torch finds no GPU here\n"
    assert not [*tmp_path.iterdir()]
