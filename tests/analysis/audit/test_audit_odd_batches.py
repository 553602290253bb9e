"""Batches and modules that are unusual: audited all the same, or one plain line, from every function."""

import copy
import dataclasses

import pytest
import torch
from torch import Tensor, nn

from analysis.audit import AuditError, accuracy, adjust, audit, compare, diagnosis
from analysis.audit.__main__ import main

MODULE = """
import torch
from torch import nn

from tests.analysis.audit.test_audit_odd_batches import (
    Convolutional, Differentiating, GraphNetwork, graphs, ragged, vectors_with_labels, weight_normed, within_grad
)

def samples(graph): return int(graph.graphs)
def failing(graph): return graph.missing
"""


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        pool = [nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 2)]
        self.body = nn.Sequential(nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), *pool)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def ragged() -> list:
    generator = torch.Generator().manual_seed(0)
    sizes = [(32, 20)] * 4 + [(1, 30)]
    return [(torch.randn(n, 3, length, generator=generator), torch.arange(n) % 2) for n, length in sizes]


@dataclasses.dataclass
class Graph:
    """As of a library for graphs: no tensor, no mapping, and its nodes are no samples."""

    x: Tensor
    edges: Tensor  # [2, edges]
    name: str
    graphs: int = 3


class GraphNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.norm, self.head = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)

    def forward(self, graph: Graph) -> Tensor:
        near = torch.zeros(len(graph.x), len(graph.x))
        near[graph.edges[0], graph.edges[1]] = 1
        graph.x = self.head(self.norm(near @ self.layer(graph.x)))  # into the user's object
        return graph.x


def graphs() -> list:
    torch.manual_seed(0)
    return [Graph(torch.randn(n, 4), torch.randint(0, n, (2, 90)), "a graph") for n in (30, 41, 30)]


class Differentiating(nn.Module):
    """Forces from energies, as in networks of molecules."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.norm, self.head = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x.requires_grad_(True)
        energy = self.head(torch.tanh(self.norm(self.layer(x)))).sum()
        return torch.autograd.grad(energy, x, create_graph=True)[0]


def within_grad(model: nn.Module, batch) -> Tensor:
    with torch.enable_grad():
        return model(batch[0])


def vectors_with_labels() -> list:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(16, 4, generator=generator), torch.arange(16) % 2) for _ in range(8)]


def weight_normed() -> nn.Module:
    """Old style: the weight is a tensor amid a graph of gradients, which Python cannot copy."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.utils.weight_norm(nn.Linear(4, 8)), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 2)
    )
    model(vectors_with_labels()[0][0])
    return model


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    (tmp_path / "odd_batches.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(target: str, data: str, **settings: str):
        values = {"target": target, "data": data} | settings
        status = main([f"{key}=odd_batches:{name}" for key, name in values.items()])
        return status, capsys.readouterr()

    return run


def test_a_leftover_of_another_shape_is_left_out_and_counted(command):
    model, before = Convolutional(), Convolutional().state_dict()
    for batches in (ragged(), ragged()[::-1]):
        table = audit(model, batches)
        assert (table.attrs["samples"], table.attrs["batches"], table.attrs["left_out"]) == (128, 4, 1)
        assert "Left out: 1 single sample of another shape" in diagnosis(table)
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    shown = compare({"adjusted": adjust(copy.deepcopy(model), ragged())}, ragged())
    assert shown.train_mode.between(0, 100).all()
    status, said = command("Convolutional", "ragged")
    assert status == 0
    assert "Left out: 1 single sample" in said.out


def test_dicts_with_strings_are_joined_item_by_item():
    class Named(Convolutional):
        def forward(self, x: Tensor, names: list[str]) -> Tensor:
            assert len(names) == len(x)
            return super().forward(x)

    rows = [(torch.randn(n, 3, 20), torch.zeros(n, dtype=torch.long), ["a name"] * n) for n in (16, 16, 1)]
    batches = [{"x": x, "names": names, "labels": y, "split": "train"} for x, y, names in rows]
    table = audit(Named(), batches)
    assert (table.attrs["samples"], table.attrs["left_out"]) == (33, 0)
    assert 0 <= accuracy(Named(), batches) <= 100
    other = [*batches[:2], {"x": torch.randn(1, 3, 20), "names": ["a name"]}]
    assert audit(Named(), other).attrs["left_out"] == 1


def test_graphs_are_batches_and_stay_as_they_are(command):
    data = graphs()
    table = audit(GraphNetwork(), data, size=lambda graph: graph.graphs)
    assert (table.attrs["samples"], table.attrs["batches"]) == (9, 3)
    assert table.test_var.notna().all()
    assert all(graph.x.equal(old.x) for graph, old in zip(data, graphs(), strict=True))
    adjust(GraphNetwork(), data, size=lambda graph: graph.graphs)
    status, said = command("GraphNetwork", "graphs", size="samples")
    assert status == 0
    assert "9 samples" in said.out
    with pytest.raises(AuditError, match="size= failed: AttributeError"):
        audit(GraphNetwork(), data, size=lambda graph: graph.missing)
    status, said = command("GraphNetwork", "graphs", size="failing")
    assert (status, said.err.count("\n")) == (2, 1)


def test_samples_are_counted_by_labels_where_the_first_tensor_is_of_edges():
    class OfPairs(GraphNetwork):
        def forward(self, edges: Tensor, x: Tensor) -> Tensor:
            return super().forward(Graph(x, edges, ""))

    batches = [(graph.edges, graph.x, torch.zeros(len(graph.x)).long()) for graph in graphs()]
    assert audit(OfPairs(), batches).attrs["samples"] == 101
    pixels = [(torch.randn(4, 3, 20), torch.zeros(4 * 20)) for _ in range(2)]
    assert audit(Convolutional(), pixels).attrs["samples"] == 8


def test_a_forward_that_differentiates_asks_for_gradients_in_one_line(command):
    model, batches = Differentiating(), vectors_with_labels()
    for function in (audit, adjust, lambda model, batches: compare({"it": model}, batches)):
        with pytest.raises(
            AuditError, match=r"It differentiates.*give forward=.*torch\.enable_grad\(\)"
        ) as error:
            function(model, batches)
        assert "\n" not in str(error.value)
    status, said = command("Differentiating", "vectors_with_labels")
    assert (status, said.err.count("\n")) == (2, 1)

    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = audit(nn.Sequential(model.layer, model.norm), batches)
    table = audit(model, batches, forward=within_grad)
    assert table.train_var[0] == pytest.approx(expected.train_var[0], rel=1e-6)
    compare({"it": model}, batches, forward=within_grad)
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert not any(x.requires_grad or x.grad is not None for x, _ in batches)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert "No shift" in diagnosis(
        audit(adjust(model, batches, forward=within_grad), batches, forward=within_grad)
    )
    assert command("Differentiating", "vectors_with_labels", forward="within_grad")[0] == 0


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_a_model_that_cannot_be_copied_is_audited_adjusted_and_compared(command):
    model, batches = weight_normed(), vectors_with_labels()
    with pytest.raises(RuntimeError):
        copy.deepcopy(model)
    before = audit(model, batches)
    assert audit(model, batches).equals(before)
    compare({"it": model}, batches)
    adjust(model, batches)
    assert command("weight_normed", "vectors_with_labels")[0] == 0


def test_what_forward_takes_out_of_a_batch_is_there_again():
    batches = [{"x": torch.randn(16, 3, 20), "id": 1} for _ in range(3)]
    audit(Convolutional(), batches, forward=lambda model, batch: model(batch.pop("x")))
    assert all("x" in batch for batch in batches)
