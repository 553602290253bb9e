"""`python -m analysis.audit` as a user types it, but within this process."""

import copy
import re

import pandas as pd
import pytest
import torch

from analysis.audit.__main__ import main
from tests.conftest import files_below
from tests.full_disk import full_disk

MODULE = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 2))

def batches():
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(32, 16, generator=generator), torch.arange(32) % 2) for _ in range(10)]

def with_lock():
    import threading
    model = build()
    model.lock = threading.Lock()
    return model

def amid_gradients():
    model = build()
    nn.utils.weight_norm(model[0])
    model(batches()[0][0])
    return model

def interrupted():
    yield batches()[0]
    raise KeyboardInterrupt

def broken():
    raise RuntimeError("no data today")

def plain():
    return nn.Linear(16, 2)

def dataset():
    return torch.utils.data.TensorDataset(torch.randn(8, 16))

def minus_loss(model, batches):
    losses = [nn.functional.cross_entropy(model(x), y) for x, y in batches]
    return -sum(losses) / len(losses)

def failing(model, batches):
    raise KeyError("auc")

number = 3
stream = iter(batches())
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "their_network.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_it_prints_the_diagnosis_and_writes_all_files(here, capsys):
    assert main(["target=their_network:build", "data=their_network:batches", "out=report"]) == 0
    out = capsys.readouterr().out
    assert "its own noise alone, 1 (Dropout 0.5)" in out
    assert "after adjust" in out
    assert {path.name for path in (here / "report").iterdir()} == {
        *("audit.csv", "audit.png", "audit.svg", "audit.html")
    }
    assert pd.read_csv("report/audit.csv").layer_name.astype(str).tolist() == ["2"]
    page = (here / "report/audit.html").read_text()
    assert "Worst first" in page
    assert not re.search(r"(src|href|url)\W*http", page)


def test_files_that_cannot_all_be_written_leave_the_old_ones(here, capsys):
    (here / "report").mkdir()
    (here / "report" / "audit.csv").write_text("old")
    with full_disk():
        assert main(["target=their_network:build", "data=their_network:batches", "out=report"]) == 2
    assert capsys.readouterr().err.startswith("audit: [Errno 27] File too large")
    assert files_below(here / "report") == {"audit.csv": b"old"}


def test_it_uses_a_metric_of_the_users_own(here, capsys):
    settings = ["target=their_network:build", "data=their_network:batches"]
    assert main([*settings, "metric=their_network:minus_loss"]) == 0
    lines = capsys.readouterr().out.split("their_network:minus_loss\n")[1].splitlines()
    before, after = (line.split() for line in lines[1:3])
    assert (before[0], after[:2]) == ("before", ["after", "adjust"])
    assert float(before[-1]) != float(after[-1]) < 0
    assert "their_network:minus_loss" in (here / "outputs/audit/audit.html").read_text()


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("build", ["with_lock", "amid_gradients"])
def test_a_model_that_cannot_be_copied_is_adjusted_and_set_back(here, capsys, build):
    assert main([f"target=their_network:{build}", "data=their_network:batches"]) == 0
    assert "after adjust" in capsys.readouterr().out


def test_ctrl_c_is_one_line(here, capsys):
    assert main(["target=their_network:build", "data=their_network:interrupted"]) == 130
    assert capsys.readouterr().err == "audit: interrupted\n"
    assert not (here / "outputs").exists()


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_a_checkpoint_is_loaded(here, capsys, kind):
    import their_network  # type: ignore[import-not-found]

    weights = copy.deepcopy(their_network.build().state_dict())
    weights["2.running_var"] += 100
    if kind == "pt":
        torch.save(weights, "weights.pt")
    else:
        pytest.importorskip("safetensors", reason="needs the extra audit: safetensors")
        from safetensors.torch import save_file

        save_file(weights, "weights.safetensors")
    settings = ["target=their_network:build", "data=their_network:batches", f"checkpoint=weights.{kind}"]
    assert main(settings) == 0
    assert pd.read_csv("outputs/audit/audit.csv").moving_var.item() == pytest.approx(101)


def test_a_checkpoint_that_would_run_code_is_refused(here, capsys):
    torch.save(pytest.importorskip, "evil.pt")
    settings = ["target=their_network:build", "data=their_network:batches", "checkpoint=evil.pt"]
    assert main(settings) == 2
    assert "checkpoint=evil.pt: cannot be loaded as weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["target=their_network:build"], "data is missing: allowed is data=package.module:name"),
        (["--target", "x"], "--target: no such setting; allowed are target=..., data=..."),
        (["target=their_network", "data=a:b"], "target=their_network: allowed is package.module:name"),
        (
            ["target=nowhere:build", "data=a:b"],
            "target=nowhere:build: cannot be imported: ModuleNotFoundError",
        ),
        (["target=their_network:number", "data=a:b"], "target=their_network:number: "),
        (
            ["target=their_network:build", "data=their_network:broken"],
            "calling it failed: RuntimeError: no data",
        ),
        (
            ["target=their_network:build", "data=their_network:dataset"],
            "are a Dataset, whose items are single samples: wrap it, DataLoader",
        ),
        (
            ["target=their_network:build", "data=their_network:stream"],
            "is read only once; allowed is a function",
        ),
        (
            ["target=their_network:build", "data=their_network:batches", "metric=their_network:number"],
            "metric=their_network:number: is of type int; allowed is a function",
        ),
        (
            ["target=their_network:build", "data=their_network:batches", "metric=their_network:failing"],
            "The metric failed: KeyError: 'auc'",
        ),
        (
            ["target=their_network:build", "data=their_network:batches", "out=their_network.py"],
            "out=their_network.py: is a file; allowed is a folder",
        ),
        (["target=their_network:build", "data=their_network:number"], "of type int: allowed is an iterable"),
        (["target=their_network:plain", "data=their_network:batches"], "The model has no BatchNorm layer"),
        (
            ["target=their_network:build", "data=their_network:batches", "checkpoint=no.pt"],
            "checkpoint=no.pt: allowed is a file of weights",
        ),
    ],
)
def test_bad_input_is_one_line(here, capsys, arguments, line):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.startswith("audit: ")
    assert error.count("\n") == 1
    assert not (here / "outputs").exists()
