"""The causes of a shift, planted alone and in pairs: each is named where it is, and no other."""

import itertools

import pytest
import torch
from torch import nn

from analysis.audit import adjust, audit, diagnosis
from tests.analysis.audit.audit_models import mlp, trained, vectors

FIRST, SECOND, LAST = "1", "5", "8"  # the BN layers of `mlp` with one module before the second


def planted(causes):
    """A network with these causes, its training batches, and its evaluation batches."""
    batches = vectors()
    model = mlp(nn.Dropout(0.5 if "noise" in causes else 0.0))
    trained(model, batches, passes=5)
    if "lag" in causes:
        model.get_submodule(LAST).running_var.mul_(3)
    scale = 1.6 if "data" in causes else 1.0
    return model, batches, [scale * x for x in vectors(seed=1)]


CAUSES = ("noise", "lag", "data")
CHOICES = [choice for size in range(4) for choice in itertools.combinations(CAUSES, size)]


@pytest.mark.parametrize("causes", CHOICES, ids=["-".join(choice) or "none" for choice in CHOICES])
def test_causes_alone_and_together_are_told_apart(causes):
    table = audit(*planted(causes)).set_index("layer_name")
    alarms = {name: set(alarm.split(",")) for name, alarm in table.alarm.items()}
    assert ("noise" in alarms[SECOND]) == ("noise" in causes)
    assert ("lag" in alarms[LAST]) == ("lag" in causes)
    assert ("data" in alarms[FIRST]) == ("data" in causes)
    assert not {"noise", "lag"} & (alarms[FIRST] | ({"lag"} & alarms[SECOND]))
    assert table.own_noise[SECOND] == ("3 (Dropout 0.5)" if "noise" in causes else "")
    if "lag" in causes:
        assert table.lag_ratio_low[LAST] < 1 / 3 < table.lag_ratio_high[LAST]
    if "data" in causes:
        assert table.data_ratio_low[FIRST] < 1.6**2 < table.data_ratio_high[FIRST]
    if causes == ("noise",):
        assert table.noise_ratio[SECOND] == pytest.approx(table.local_ratio_exact[SECOND], rel=0.03)

    said = diagnosis(table.reset_index())
    answers = {"noise": "Noise before BN", "lag": "Stored statistics that lag", "data": "Data that differ"}
    for cause, row in answers.items():
        assert f"{row}: {'yes' if cause in causes else 'no'}" in said
    assert ("No shift" in said) == (not causes)


def test_a_stored_mean_that_is_off_is_a_lag():
    batches = vectors()
    model = adjust(mlp(), batches)
    model[4].running_mean += 0.5 * model[4].running_var.sqrt()
    table = audit(model, batches).set_index("layer_name")
    assert table.alarm["4"] == "lag"
    assert table.lag_ratio["4"] == pytest.approx(1, abs=1e-4)
    assert table.lag_mean_low["4"] < 0.5 < table.lag_mean_high["4"]
    assert table.mean_shift["4"] == pytest.approx(0.5, abs=0.01)
    assert "upstream" in table.alarm["7"]
    assert "its mean 0.5 standard deviations off" in diagnosis(table.reset_index())


def test_evaluation_data_with_another_mean_are_told_apart():
    batches = vectors()
    table = audit(adjust(mlp(), batches), batches, [x + 1 for x in vectors(seed=1)])
    assert table.alarm[0] == "data"
    assert table.data_ratio[0] == pytest.approx(1, abs=0.1)
    assert "Data that differ: yes" in diagnosis(table)


def test_high_momentum_with_small_batches_is_a_lag_that_says_so():
    model = mlp()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = 0.9
    trained(model, vectors(batches=60, batch=8))
    table = audit(model, vectors(batches=100, batch=8, seed=1))
    assert "lag" in table.alarm[0]
    assert "momentum 0.9 averages over 1.22 batches, of 8 samples each" in diagnosis(table)
    adjust(model, vectors(batches=100, batch=8, seed=2))
    assert not audit(model, vectors(batches=100, batch=8, seed=1)).alarm.str.contains("lag").any()


def test_alarms_of_means_keep_their_level():
    """Intervals of an offset hold at least as often as they say, be channels independent or alike."""
    from analysis.audit.moments import GroupedMoments, offset

    generator = torch.Generator().manual_seed(0)
    for mixing in (torch.eye(6), torch.ones(6, 6)):
        held = 0
        for _ in range(300):
            moments = GroupedMoments()
            for _ in range(3):
                moments.update(torch.randn(30, 6, generator=generator) @ mixing + 0.2)
            low, high = offset(moments, torch.zeros(6), torch.ones(6)).interval()
            held += low < 0.2 < high
        assert held / 300 >= 0.93
