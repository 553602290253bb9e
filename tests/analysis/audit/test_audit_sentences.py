"""What cannot be audited is said in a plain sentence, and what is unusual is audited all the same."""

import math

import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from analysis.audit import AuditError, accuracy, adjust, audit, compare, diagnosis
from analysis.audit.__main__ import main
from tests.analysis.audit.audit_models import mlp, trained, vectors

MODULE = """
import torch
from torch import nn

norm = nn.BatchNorm1d

def without_norm(): return nn.Linear(4, 2)
def without_noise(): return nn.Sequential(nn.Linear(4, 4), norm(4))
def failing(): return nn.Sequential(nn.Linear(3, 4), norm(4))
def lazy(): return nn.Sequential(nn.LazyLinear(4), norm(4))
def lazy_norm(): return nn.Sequential(nn.Linear(4, 4), nn.LazyBatchNorm1d())
def untracked(): return nn.Sequential(nn.Linear(4, 4), norm(4, track_running_stats=False))
def scripted(): return torch.jit.script(without_noise())
def partly_scripted(): return nn.Sequential(norm(4), torch.jit.script(nn.Linear(4, 4)))
def weightless(): return without_noise().to("meta")

def shared():
    layer = norm(4)
    return nn.Sequential(layer, nn.Linear(4, 4), layer)

def broken():
    model = without_noise()
    model[0].weight.data[0, 0] = float("nan")
    return model

def batches():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(32, 4, generator=generator) for _ in range(4)]

def single(): return [torch.randn(1, 4)]
def nothing(): return []
def enormous(): return [1e30 * torch.randn(8, 4)]
def poisoned(): return [torch.full((8, 4), float("nan"))]
"""
REFUSED = {
    "without_norm": "The model has no BatchNorm layer",
    "failing": "The model's forward failed in train mode with noise off: RuntimeError: mat1",
    "lazy": "lazy layers that have not seen data yet (0.weight): run one batch through it first",
    "lazy_norm": "lazy layers that have not seen data yet",
    "broken": "NaN or infinite numbers in 0.weight",
    "scripted": "The model is TorchScript, which hides its layers",
    "partly_scripted": "Its part 1 is TorchScript, which hides its layers",
    "weightless": "The model has no weights, 0.weight is on torch's meta device: load them first",
}
REFUSED_DATA = {
    "single": "give batches of 2 samples or more",
    "nothing": "There are no batches to run the model on",
    "enormous": "Numbers too large to be squared reach the BN layer 1 first",
    "poisoned": "NaN or infinite numbers reach the BN layer 1 first",
}
ACCEPTED = {
    "without_noise": "Noise before BN: no, the network has none",
    "untracked": "track_running_stats=False: it stores nothing, so eval uses each batch",
    "shared": "is shared: 2 calls a forward, pooled",
}


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    (tmp_path / "odd_networks.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return __import__("odd_networks")


@pytest.mark.filterwarnings("ignore:.*Lazy modules:UserWarning", "ignore:.*deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("build", "data"),
    [*((name, "batches") for name in REFUSED), *(("without_noise", name) for name in REFUSED_DATA)],
)
def test_refused_with_one_sentence_in_python_and_on_the_command_line(theirs, capsys, build, data):
    sentence = REFUSED.get(build, REFUSED_DATA.get(data))
    with pytest.raises(AuditError) as error:
        audit(getattr(theirs, build)(), getattr(theirs, data)())
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert main([f"target=odd_networks:{build}", f"data=odd_networks:{data}"]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("build", ACCEPTED)
def test_unusual_but_audited_in_python_and_on_the_command_line(theirs, capsys, build):
    model = getattr(theirs, build)()
    assert ACCEPTED[build] in diagnosis(audit(model, theirs.batches()))
    assert main([f"target=odd_networks:{build}", "data=odd_networks:batches"]) == 0
    assert ACCEPTED[build] in capsys.readouterr().out
    assert len(pd.read_csv("outputs/audit/audit.csv")) == 1


def test_no_bn_layer_that_stores_anything_is_no_shift():
    table = audit(nn.Sequential(nn.BatchNorm1d(16, track_running_stats=False)), vectors(2))
    assert math.isnan(table.shift_ratio[0])
    assert diagnosis(table).startswith("No BN layer stores statistics")
    with pytest.raises(AuditError, match="they store nothing that could be adjusted"):
        adjust(nn.Sequential(nn.BatchNorm1d(16, track_running_stats=False)), vectors(2))


def test_synchronised_layers_of_a_single_process_are_audited_on_a_cpu():
    batches = vectors()
    plain = trained(mlp(nn.Dropout(0.5)), batches)
    expected = audit(plain, batches)
    table = audit(nn.SyncBatchNorm.convert_sync_batchnorm(plain), batches)
    pd.testing.assert_frame_equal(table, expected)
    adjust(nn.SyncBatchNorm.convert_sync_batchnorm(plain), batches)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (TensorDataset(torch.randn(8, 16)), "wrap it, DataLoader"),
        (torch.randn(8, 16), "put it in a list"),
        (3, "allowed is an iterable of batches"),
        ({"input": torch.randn(8, 16)}, "allowed is an iterable of batches"),
    ],
)
def test_data_that_are_no_batches(data, sentence):
    for function in (audit, adjust):
        with pytest.raises(AuditError, match=sentence):
            function(mlp(), data)


def test_an_iterator_cannot_be_compared_on():
    with pytest.raises(AuditError, match="An iterator can be read only once"):
        compare({"before": mlp()}, iter(vectors(2)))


class Segmenter(nn.Module):
    """Scores per pixel; BatchNorm2d has many values even in a batch of one image."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.Dropout2d(0.5), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)
        )

    def forward(self, x):
        return {"out": self.body(x)}


def test_a_segmentation_network_with_batches_of_one_image():
    torch.manual_seed(0)
    data = [(torch.randn(1, 3, 16, 16), torch.randint(0, 2, (1, 16, 16))) for _ in range(12)]
    model = trained_on_inputs(Segmenter(), data)
    table = audit(model, data)
    assert table.attrs["samples"] == table.attrs["batches"] == 12
    assert table.own_noise[0] == "body.1 (Dropout2d 0.5)"
    assert 0 < accuracy(model.eval(), data) < 100
    assert accuracy(adjust(model, data), data) > 0


def trained_on_inputs(model, data):
    model.train()
    with torch.no_grad():
        for x, _ in data * 5:
            model(x)
    return model


class HuggingFaceStyle(nn.Module):
    """Keyword arguments in, an object with `logits` out."""

    def __init__(self):
        super().__init__()
        self.body, self.head = mlp(nn.Dropout(0.5)), nn.Linear(32, 2)

    def forward(self, input_values, attention_mask=None, labels=None):
        return {"loss": None, "logits": self.head(self.body(input_values))}


def test_dicts_go_in_as_keyword_arguments():
    x = torch.randn(128, 16)
    rows = [{"input_values": row, "labels": int(row[0] > 0)} for row in x]
    table = audit(HuggingFaceStyle(), DataLoader(rows, batch_size=32))
    assert table.own_noise[1] == "body.3 (Dropout 0.5)"
    shown = compare({"as it is": HuggingFaceStyle()}, DataLoader(rows, batch_size=32))
    assert shown.eval_mode.between(0, 100).all()
    unlabelled = HuggingFaceStyle()
    unlabelled.forward = lambda input_values: {"logits": unlabelled.head(unlabelled.body(input_values))}
    assert accuracy(unlabelled.eval(), DataLoader(rows, batch_size=32)) >= 0


def test_layers_that_were_never_updated_are_told():
    assert "because it was never updated: train first" in diagnosis(audit(mlp(), [5 * x for x in vectors()]))


def test_a_network_for_volumes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.Dropout3d(0.5), nn.BatchNorm3d(4), nn.ReLU())
    batches = [torch.randn(8, 1, 6, 6, 6) for _ in range(6)]
    table = audit(trained(model, batches, passes=8), batches)
    assert "noise" in table.alarm[0]
    assert adjust(model, batches)
    assert audit(model, batches).alarm[0] == ""
