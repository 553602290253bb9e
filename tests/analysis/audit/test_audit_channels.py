"""Single channels that are off, in layers whose value hardly tells of it."""

import numpy as np
import pytest
import torch
from torch import nn

from analysis.audit import adjust, audit, diagnosis
from tests.analysis.audit.audit_models import mlp, vectors
from tests.analysis.audit.trouble_models import sound


def test_one_variance_of_64_is_found_by_its_name():
    batches = vectors()
    model = sound(batches)
    model[4].running_var[7] *= 10
    table = audit(model, batches).set_index("layer_name")
    assert table.alarm["4"] == "lag"
    assert "1 of 64 channels stores x10 of the variance that train mode has (7)" in diagnosis(
        table.reset_index()
    )
    assert table.log_ratio_rms["4"] == pytest.approx(np.log(10) / 8, rel=0.05)
    assert table.log_ratio_rms["1"] == 0
    assert table.alarm["1"] == ""


def test_one_mean_of_64_is_found_by_its_name():
    batches = vectors()
    model = sound(batches, width=1024)
    model[4].running_mean[7] += 3 * model[4].running_var[7].sqrt()
    table = audit(model, batches)
    assert table.lag_mean_low[1] < 0.1
    assert table.alarm[1] == "lag"
    assert "the stored mean of 1 of 1024 channels is 3 standard deviations off (7)" in diagnosis(table)


def test_channels_of_little_variance_are_found_though_the_layer_as_a_whole_agrees():
    torch.manual_seed(0)
    batches = vectors(features=64)
    model = nn.Sequential(nn.Linear(64, 256), nn.BatchNorm1d(256), nn.ReLU())
    with torch.no_grad():
        model[0].weight.mul_(torch.exp(1.5 * torch.randn(256))[:, None])
    adjust(model, batches)
    least = model[1].running_var.argsort()[:128]
    model[1].running_var[least] *= 4
    table = audit(model, batches)
    assert table.shift_ratio[0] > 0.98
    assert table.alarm[0] == "lag"
    assert "128 of 256 channels store x4 of the variance that train mode has" in diagnosis(table)
    assert "No shift" not in diagnosis(table)
    assert "adjust(model, training_batches)" in diagnosis(table)
    assert audit(adjust(model, batches), batches).alarm[0] == ""


@pytest.mark.parametrize("what", ["both", "running_mean", "running_var"])
def test_statistics_in_another_order_of_channels_are_recognised(what):
    torch.manual_seed(0)
    batches = vectors()
    model = sound(batches)
    order = torch.randperm(64)
    for name in ("running_mean", "running_var") if what == "both" else (what,):
        stored = getattr(model[1], name)
        stored.copy_(stored[order])
    table = audit(model, batches)
    assert table.is_permuted.tolist() == [True, False, False]
    assert "fits in another order of the channels" in diagnosis(table)
    assert "in the order of its channels" in diagnosis(table)


def test_other_statistics_of_the_same_law_are_in_no_other_order():
    torch.manual_seed(0)
    batches = vectors()
    model = sound(batches)
    model[1].running_mean.copy_(torch.randn(64) * model[1].running_mean.std())
    table = audit(model, batches)
    assert "lag" in table.alarm[0]
    assert not table.is_permuted[0]


def test_one_channel_of_the_evaluation_data_that_differs_is_found():
    batches = vectors()
    others = [x * torch.where(torch.arange(16) == 3, 3.0, 1.0) for x in vectors(seed=1)]
    model = adjust(nn.Sequential(nn.BatchNorm1d(16), nn.Linear(16, 8), nn.BatchNorm1d(8)), batches)
    table = audit(model, batches, others)
    assert "data" in table.alarm[0]
    assert "of the variance in 1 of 16 channels (3)" in diagnosis(table)


def test_channels_that_were_constant_are_warned_of():
    batches = [x * (torch.arange(16) > 1) for x in vectors()]
    model = adjust(nn.Sequential(nn.BatchNorm1d(16)), batches)
    said = diagnosis(audit(model, batches))
    assert said.startswith("No shift")
    assert "2 of 16 channels (0, 1) store a variance far below eps" in said
    assert "x316 if it moves" in said
    table = audit(model, batches, vectors(seed=1))
    assert "data" in table.alarm[0]


@pytest.mark.parametrize("power", [1, 3], ids=["gaussian", "heavy tails"])
def test_no_channel_of_a_sound_network_is_accused(power):
    accused = []
    for seed in range(20):
        train, test, fresh = ([x**power for x in vectors(4, 32, seed=seed + 100 * at)] for at in range(3))
        table = audit(adjust(mlp(seed=seed, width=128), train), test, fresh)
        accused += [text for text in table.channels_off if text]
    assert not accused
