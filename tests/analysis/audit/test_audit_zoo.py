"""The audit on networks that nobody here wrote, see `zoo`: planted shifts of known size, and no false alarm."""

import math

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from analysis.audit import adjust, audit
from tests.analysis.audit.zoo import NETWORKS, inputs, without_noise

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("default"),  # what these packages warn of is their business
]


def reached(table):
    """Names of the BN layers that the data reach, from shallow to deep."""
    return table.layer_name[table.calls > 0].tolist()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_planted_variance_is_found_where_it_is(name):
    model, batches = without_noise(name), inputs(name, 3, 256 if name == "tabnet" else 64)
    adjust(model, batches)
    names = reached(audit(model, batches))
    planted = names[len(names) // 2]
    model.get_submodule(planted).running_var.mul_(0.5)
    table = audit(model, batches).set_index("layer_name")
    assert [layer for layer in table.index if "lag" in table.alarm[layer]] == [planted]
    assert table.lag_ratio[planted] == pytest.approx(2, rel=1e-3)
    assert table.shift_ratio_low[planted] < 2 < table.shift_ratio_high[planted]
    assert "noise" not in ",".join(table.alarm)


@pytest.mark.parametrize("name", NETWORKS)
def test_inserted_dropout_is_found_before_its_layer_with_its_size(name):
    rate = 0.5
    model, batches = without_noise(name), inputs(name, 3, 256 if name == "tabnet" else 64)
    names = reached(audit(model, batches[:1]))
    planted = names[len(names) // 3]
    parent, _, child = planted.rpartition(".")
    norm = model.get_submodule(planted)
    dropout = nn.Dropout(rate)
    setattr(model.get_submodule(parent), child, nn.Sequential(dropout, norm))
    for norm_layer in model.modules():
        if isinstance(norm_layer, _BatchNorm):
            norm_layer.momentum = None  # a plain mean: three batches are enough
    model.train()
    with torch.no_grad():
        for x in batches:
            model(x)
    table = audit(model, batches).set_index("layer_name")
    row = table.loc[f"{planted}.1"]
    assert row.own_noise == f"{planted}.0 (Dropout {rate:g})"
    assert not table.own_noise.drop(row.name).str.contains(row.own_noise, regex=False).any()
    assert "noise" in row.alarm

    # The size by hand: x straight into BN, Var_train = Var x + sigma^2 E[x^2].
    seen = []
    dropout.eval()
    hook = norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        for x in batches:
            model(x)
    hook.remove()
    x = torch.cat(seen).transpose(0, 1).flatten(1).double()
    expected = float(x.var(1).mean() / (x.var(1).mean() + rate / (1 - rate) * x.square().mean()))
    width = math.log(row.local_ratio_high / row.local_ratio_low)
    assert abs(math.log(row.local_ratio / expected)) < width  # twice the 95 % interval: 12 cases are tried
    assert width < 0.5
    assert row.local_ratio_exact == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_alarm_without_noise_over_20_seeds(name):
    """Other weights, other data for storing and other data for the audit with every seed: no layer is accused."""
    alarms = []
    for seed in range(20):
        model = adjust(without_noise(name, seed), inputs(name, 2, 16, seed=100 + seed))
        table = audit(model, inputs(name, 2, 16, seed=200 + seed))
        accused = table[table.alarm != ""]
        alarms += [(seed, *pair) for pair in zip(accused.layer_name, accused.alarm, strict=True)]
    assert not alarms
