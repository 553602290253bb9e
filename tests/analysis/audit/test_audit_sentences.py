"""What cannot be audited is said in a plain sentence, and what is unusual is audited all the same."""

import math

import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from analysis.audit import AuditError, accuracy, adjust, audit, compare, diagnosis
from analysis.audit.__main__ import main
from analysis.audit.shown import short_table
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

def stored(variance, channel=slice(None)):
    model = without_noise()
    model[1].running_var[channel] = variance
    return model

def all_zero(): return stored(0.0)
def one_zero(): return stored(0.0, 2)
def negative(): return stored(-1.0, 2)
def infinite(): return stored(float("inf"), 2)
def not_numbers(): return stored(float("nan"))

def updating(momentum):
    model = without_noise()
    model[1].momentum = momentum
    return model

def with_momentum_2(): return updating(2.0)
def with_momentum_below_0(): return updating(-0.1)

def dropped(): return nn.Sequential(nn.Dropout(1.0), nn.Linear(4, 4), norm(4))

class DroppedAt(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Linear(4, 4), norm(4)

    def forward(self, x):
        return self.norm(self.layer(nn.functional.dropout(x, 1.0, self.training)))

class Unreached(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer, self.unused = layer, norm(4)
        self.unused.running_var.fill_(float("nan"))

    def forward(self, x):
        return self.layer(x)

def unreached(): return Unreached(nn.Linear(4, 4))

class Constant(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = norm(4)
        self.norm.running_var.fill_(0)

    def forward(self, x):
        return self.norm(0 * x)

class WithoutBranch(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch, self.norm = nn.Linear(4, 4), norm(4)

    def forward(self, x):
        return self.norm(x + nn.functional.dropout(9 * self.branch(x), 1.0, self.training))

def batches():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(32, 4, generator=generator) for _ in range(4)]

class Failing:
    def __iter__(self): raise OSError("no disk")

def failing_midway():
    yield torch.randn(32, 4)
    raise KeyError("lost")

class Samples(torch.utils.data.Dataset):
    def __len__(self): return 6
    def __getitem__(self, index):
        if index == 5: raise KeyError("lost", "file")
        return torch.randn(4)

def failing_worker(): return torch.utils.data.DataLoader(Samples(), 2, num_workers=1)
def empty(): return [torch.randn(8, 4), torch.randn(0, 4)]
def empty_with_labels(): return [(torch.randn(0, 4), torch.zeros(0))]
def ragged(): return [torch.randn(8, 4), torch.randn(1, 5)]
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
    "all_zero": "The BN layer 1 stores a variance of 0 in 4 of 4 channels, though its input varies: eval mode",
    "one_zero": "The BN layer 1 stores a variance of 0 in 1 of 4 channels, though its input varies: eval mode",
    "negative": "The BN layer 1 stores a negative variance in 1 of 4 channels, which is impossible",
    "infinite": "The BN layer 1 stores NaN or infinite statistics in 1 of 4 channels: eval mode cannot work",
    "not_numbers": "The BN layer 1 stores NaN or infinite statistics in 4 of 4 channels: eval mode cannot work",
    "with_momentum_2": "The BN layer 1 has momentum=2, with which a running average runs away",
    "with_momentum_below_0": "The BN layer 1 has momentum=-0.1, with which a running average runs away",
    "dropped": "In train mode 0 (Dropout 1) leaves nothing of what the BN layer 2 gets with noise off",
    "DroppedAt": "In train mode the model: F.dropout 1 leaves nothing of what the BN layer norm gets",
    "weightless": "The model has no weights, 0.weight is on torch's meta device: load them first",
}
REFUSED_DATA = {
    "single": "give batches of 2 samples or more",
    "Failing": "Reading batch 1 of the data failed: OSError: no disk",
    "failing_midway": "Reading batch 2 of the data failed: KeyError: 'lost'",
    "failing_worker": "Caught KeyError in DataLoader worker process 0. KeyError: ('lost', 'file')",
    "empty": "Batch 2 has 0 samples: leave it out",
    "empty_with_labels": "Batch 1 has 0 samples: leave it out",
    "nothing": "There are no batches to run the model on",
    "enormous": "Numbers too large to be squared reach the BN layer 1 first",
    "poisoned": "NaN or infinite numbers reach the BN layer 1 first",
}
ACCEPTED = {
    "without_noise": "Noise before BN: no, the network has none",
    "untracked": "track_running_stats=False: it stores nothing, so eval uses each batch",
    "shared": "is shared: 2 calls a forward, pooled",
    "unreached": "Not measured: nothing can be said of 1 BN layer",
    "Constant": "norm: not measured, as what it gets in eval mode does not vary",
    "WithoutBranch": "Noise before BN: yes, 1 layer",
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


@pytest.mark.parametrize("build", ["all_zero", "negative", "infinite", "not_numbers"])
def test_the_mend_of_statistics_that_cannot_work_is_the_one_that_is_named(theirs, build):
    model = getattr(theirs, build)()
    with pytest.raises(AuditError, match=r"adjust\(model, batches\) re-estimates what is stored"):
        audit(model, theirs.batches())
    adjust(model, theirs.batches())
    assert "No shift" in diagnosis(audit(model, theirs.batches()))


def test_layers_that_nothing_reaches_are_not_measured_beside_others_that_are(theirs):
    model = theirs.Unreached(adjust(theirs.without_noise(), theirs.batches()))
    said = diagnosis(audit(model, theirs.batches()))
    assert said.startswith(
        "No shift: in all 1 measured BN layer, eval mode agrees with what is stored, 1 not"
    )
    assert "  unused: not measured, as no batch reaches it." in said
    model.layer[1].running_var.mul_(3)
    assert diagnosis(audit(model, theirs.batches())).startswith("1 of 2 BN layers is off, 1 not measured (")
    table = audit(theirs.unreached(), theirs.batches())
    assert "  Stored statistics that lag: not measured." in diagnosis(table)
    assert short_table(table)["95 % interval"].tolist() == ["not measured"]


class Only(torch.Tensor):
    """Labels that refuse to be copied."""

    def clone(self, *args, **kwargs):
        raise RuntimeError("there is only one")


class Wrapped(torch.Tensor):
    """The same, deeper down."""

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ == "clone":
            raise RuntimeError("there is only one")
        args = [arg.as_subclass(torch.Tensor) if isinstance(arg, cls) else arg for arg in args]
        return func(*args, **(kwargs or {}))


def test_labels_that_cannot_be_copied_do_no_harm():
    model, x = mlp(), vectors(3)
    expected = audit(model, x)
    for labels in (torch.zeros(64).as_subclass(Only), torch.Tensor._make_subclass(Wrapped, torch.zeros(64))):
        assert audit(model, [(batch, labels) for batch in x]).equals(expected)


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
