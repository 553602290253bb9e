"""Why stored statistics lag, and what to do, from the layer's own numbers."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from analysis.audit import AuditError, adjust, audit, diagnosis
from tests.analysis.audit.audit_models import mlp, trained, vectors
from tests.analysis.audit.trouble_models import sound


def said_with(momentum: float | None, passes: int = 5) -> str:
    """The diagnosis of a network with this momentum, trained on data of 3 times the size; 20 updates a pass."""
    model, batches = mlp(), [3 * x for x in vectors()]
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = momentum
    return diagnosis(audit(trained(model, batches, passes), batches))


def test_momentum_0_never_moves():
    said = said_with(0.0)
    assert "because with momentum 0 they never move" in said
    assert "Set a momentum, 0.1 say" in said
    assert "0.1 or less" not in said


def test_a_small_momentum_leaves_the_initial_values_their_weight():
    said = said_with(0.001, passes=15)
    assert "after 300 updates with momentum 0.001 the initial values still weigh 74%" in said
    assert "more updates, or a larger momentum" in said


def test_the_usual_momentum_is_not_advised_to_those_who_have_it():
    said = said_with(0.1, passes=1)
    assert "after only 20 updates with momentum 0.1 the initial values still weigh 12%" in said
    assert "0.1 or less" not in said


def test_a_large_momentum_is():
    batches = vectors(batches=60, batch=8)
    model = mlp()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = 0.9
    said = diagnosis(audit(trained(model, batches), vectors(batches=100, batch=8, seed=1)))
    assert "a momentum of 0.1 or less" in said


def test_a_plain_mean_remembers_the_start():
    model = mlp()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = None
    trained(model, [9 * x for x in vectors()])
    assert "reset_running_stats()" in diagnosis(audit(trained(model, vectors()), vectors()))


def test_tracking_that_is_off_with_statistics_kept_is_said():
    model, batches = mlp(), [3 * x for x in vectors()]
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.track_running_stats = False
    said = diagnosis(audit(trained(model, batches), batches))
    assert "because track_running_stats is off: training leaves them alone, and eval mode uses them" in said
    assert "Set track_running_stats=True again" in said
    assert not model[1].track_running_stats


@pytest.mark.parametrize(("dtype", "short"), [(torch.bfloat16, "39%"), (torch.half, "4.9%")])
def test_statistics_in_low_precision_that_stall_are_said(dtype, short):
    batches = [(4 * x).to(dtype) for x in vectors()]
    model = nn.Sequential(nn.BatchNorm1d(16, momentum=0.01)).to(dtype)
    with torch.no_grad():
        model[0].running_var.fill_(20)
    said = diagnosis(audit(trained(model, batches, passes=30), batches))
    name = str(dtype).removeprefix("torch.")
    if dtype is torch.bfloat16:
        assert f"in {name} an average with momentum 0.01 can stop up to {short} short" in said
        assert "Keep BN layers in float32" in said
    assert audit(adjust(model, batches), batches).alarm[0] == ""


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_statistics_that_are_not_finite_beside_weights_that_are_can_be_cured(number):
    batches = vectors()
    model = sound(batches)
    model[4].running_var[3] = number
    with pytest.raises(AuditError, match=r"All weights are finite, these statistics are not.*adjust"):
        audit(model, batches)
    assert (audit(adjust(model, batches), batches).alarm == "").all()
    with torch.no_grad():
        model[0].weight[0, 0] = number
    model[4].running_var[3] = number
    with pytest.raises(AuditError, match=r"NaN or infinite numbers in 0\.weight"):
        audit(model, batches)


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool):
        super().__init__()
        self.body, self.reentrant = mlp(), reentrant

    def forward(self, x: Tensor) -> Tensor:
        return self.body[2:](checkpoint(self.body[:2], x, use_reentrant=self.reentrant))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [True, False])
def test_updates_that_checkpointing_doubles_are_said(reentrant):
    model, batches = Checkpointed(reentrant), vectors()
    model.train()
    for x in batches:
        model(x.requires_grad_()).sum().backward()
        x.requires_grad_(False)
    table = audit(model, batches)
    assert table.updates.tolist() == [40, 20, 20]  # one step each
    assert table.is_doubled.tolist() == [True, False, False]
    assert "body.1: activation checkpointing runs it twice" in diagnosis(table)
    assert "momentum 0.1 acts like 0.19" in diagnosis(table)
