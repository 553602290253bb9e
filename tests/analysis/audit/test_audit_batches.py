"""Models that write into their input: the user's batches stay as they are, and so does what the audit says."""

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from analysis.audit import AuditError, accuracy, adjust, audit, compare, diagnosis
from tests.analysis.audit.audit_models import mlp, trained, vectors


class Shift(nn.Module):
    """x - 5, in place or not."""

    def __init__(self, in_place: bool):
        super().__init__()
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        return x.sub_(5) if self.in_place else x - 5


class WritesLater(nn.Module):
    """Writes into inputs whose first number is large."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.add_(1) if x[0, 0] > 100 else x)


def first(kind: str, in_place: bool) -> nn.Module:
    return Shift(in_place) if kind == "shift" else nn.Dropout(0.5, inplace=in_place)


def labelled(count: int = 10) -> list[tuple[Tensor, Tensor]]:
    return [(x, torch.arange(len(x)) % 32) for x in vectors(count)]


@pytest.mark.parametrize("kind", ["shift", "dropout"])
def test_a_model_that_writes_is_audited_as_one_that_does_not(kind):
    tables, batches = [], labelled()
    for in_place in (True, False):
        model = nn.Sequential(first(kind, in_place), mlp())
        torch.manual_seed(1)
        trained(model, vectors(10, seed=1), passes=1)
        torch.manual_seed(0)
        tables.append(audit(model, batches))
        for (x, _), (before, _) in zip(batches, labelled(), strict=True):
            assert x.equal(before)
    pd.testing.assert_frame_equal(*tables)


def test_repair_and_comparison_leave_the_batches_as_they_are():
    model = nn.Sequential(Shift(in_place=True), mlp())
    trained(model, vectors(10), passes=1)
    batches = labelled()
    adjust(model, batches)
    compare({"adjusted": model}, batches)
    assert accuracy(model, batches) == accuracy(model, batches)
    for (x, _), (before, _) in zip(batches, labelled(), strict=True):
        assert x.equal(before)
    assert "No shift" in diagnosis(audit(model, batches))


def test_a_failure_half_way_leaves_the_batch_as_it_is():
    model = nn.Sequential(Shift(in_place=True), mlp(), nn.Linear(3, 3))
    batches = vectors(2)
    with pytest.raises(AuditError, match="forward failed"):
        audit(model, batches)
    assert batches[0].equal(vectors(2)[0])


def test_a_model_that_writes_only_sometimes_is_said():
    model, batches = WritesLater(), vectors(4)
    trained(model, vectors(4))
    batches[2][0, 0] = 200
    with pytest.raises(AuditError, match="writes into some of its inputs"):
        audit(model, batches)


def test_a_model_that_writes_into_the_first_batch_may_write_again_later():
    model, batches = WritesLater(), vectors(4)
    trained(model, vectors(4))
    for number in (0, 2):
        batches[number][0, 0] = 200
    before = [x.clone() for x in batches]
    audit(model, batches)
    assert all(x.equal(old) for x, old in zip(batches, before, strict=True))


def test_a_model_that_does_not_write_costs_a_copy_of_one_batch_a_mode(monkeypatch):
    model = trained(mlp(), vectors(10))
    batches, clone, copies = vectors(10), Tensor.clone, []

    def counted(tensor: Tensor, *arguments, **options) -> Tensor:
        copies.append(tensor.data_ptr() in {x.data_ptr() for x in batches})
        return clone(tensor, *arguments, **options)

    monkeypatch.setattr(Tensor, "clone", counted)
    audit(model, batches)
    assert 1 <= sum(copies) <= 3
