"""The model stays bit for bit, the adjustment removes the shift, the replacement keeps the variance."""

import copy
import itertools
import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from analysis.audit import AuditError, MultiplicativeNoise, adjust, audit, compare, replace_noise
from tests.analysis.audit.audit_models import convnet, images, mlp, trained, vectors


def _frozen(value):
    if isinstance(value, torch.Tensor):
        return value.numpy().tobytes()
    return (id(value), list(value)) if isinstance(value, list | dict) else value


def state_of(model):
    """Everything that must not change, with tensors as bytes and by identity."""
    random_state = (torch.get_rng_state().numpy().tobytes(), random.getstate(), str(np.random.get_state()))
    modules = []
    for module in model.modules():
        plain = {k: _frozen(v) for k, v in module.__dict__.items() if not k.startswith("_")}
        tables = {k: list(v.items()) for k, v in module.__dict__.items() if isinstance(v, dict)}
        modules.append((id(module), plain, list(module.__dict__), tables))
    tensors = [
        (name, id(t), t.requires_grad, t.detach().numpy().tobytes())
        for name, t in [*model.named_parameters(), *model.named_buffers()]
    ]
    return random_state, modules, tensors


class Hostile(nn.Module):
    """Changes buffers, attributes, hooks, modes and generators in its forward, and fails when told to."""

    def __init__(self, fail_at=None, error=RuntimeError):
        super().__init__()
        self.body = nn.Sequential(
            nn.utils.spectral_norm(nn.Linear(16, 8)), nn.Dropout(0.5), nn.SyncBatchNorm(8)
        )
        self.register_buffer("counter", torch.zeros(3))
        self.calls, self.fail_at, self.error = 0, fail_at, error
        self.count = itertools.count(1).__next__  # which goes on, as nobody can set it back
        self.seen, self.cache, self.plain = [], {}, torch.zeros(2)

    def forward(self, x):
        self.calls += 1
        self.counter += 1
        self.counter = self.counter.clone()
        self.plain += 1
        self.seen.append(self.calls)
        self.cache[self.calls] = x
        random.random(), np.random.rand(), torch.rand(1)
        self.last = x
        self.register_forward_hook(lambda *_: None)
        self.body[1].eval() if self.calls % 2 else self.body[1].train()
        if self.count() == self.fail_at:
            self.body[2].running_mean.fill_(7)
            self.body[0].bias.data[0] = math.nan
            raise self.error("on purpose")
        return self.body(x)


ACTIONS = {
    "audit": lambda model, batches: audit(model, batches, batches[:1]),
    "adjust": lambda model, batches: adjust(model, batches),
    "compare": lambda model, batches: compare({"it": model}, [(x, torch.zeros(64).long()) for x in batches]),
}


@settings(max_examples=60)
@given(
    action=st.sampled_from(sorted(ACTIONS)),
    fail_at=st.integers(1, 10),
    error=st.sampled_from([RuntimeError, KeyboardInterrupt]),
    training=st.booleans(),
    frozen=st.booleans(),
)
def test_the_model_is_bit_for_bit_as_before_also_after_an_error(action, fail_at, error, training, frozen):
    model = Hostile(fail_at, error)
    model.train(training)
    model.body[1].train(not training)  # modes of single modules count too
    model.body[2].weight.requires_grad_(not frozen)
    model.body[2].register_forward_pre_hook(lambda *_: None)
    before = state_of(model)
    failure = ""
    try:
        ACTIONS[action](model, vectors(3))
    except (AuditError, KeyboardInterrupt) as stopped:
        failure = str(stopped)
    assert "on purpose" in failure or not failure
    if failure or action != "adjust":
        assert state_of(model) == before


def test_an_error_of_the_data_leaves_the_model_as_it_was():
    model = mlp(nn.Dropout(0.5))
    before = state_of(model)

    def batches():
        yield from vectors(2)
        raise KeyError("lost")

    for action in (audit, adjust):
        with pytest.raises(AuditError, match="Reading batch 3 of the data failed: KeyError: 'lost'"):
            action(model, batches())
        assert state_of(model) == before


def test_the_same_seed_gives_the_same_table():
    batches = vectors()
    model = trained(mlp(nn.Dropout(0.5)), batches)
    first, again, other = (audit(model, iter(batches), seed=seed) for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.train_var.equals(other.train_var)


@pytest.mark.parametrize("sizes", [[32] * 12, [64, 1, 40, 2, 77], [1, 200, 1]])
def test_adjusting_removes_the_shift_whatever_the_batch_sizes(sizes):
    data = torch.cat(images(batches=16))[: sum(sizes)]
    batches = list(data.split(sizes))
    model = trained(convnet(nn.Dropout2d(0.5)), images())
    assert audit(model, batches).alarm.str.contains("noise").any()
    modes = [module.training for module in model.modules()]
    assert adjust(model, batches) is model
    assert [module.training for module in model.modules()] == modes
    first = model[0](data).transpose(0, 1).flatten(1)
    torch.testing.assert_close(model[1].running_var, first.var(1), rtol=1e-5, atol=0)
    torch.testing.assert_close(model[1].running_mean, first.mean(1), rtol=1e-4, atol=1e-6)
    table = audit(model, batches)
    assert table.shift_ratio.between(0.95, 1.05).all()
    assert (table.alarm == "").all()


def test_adjusting_repairs_a_planted_variance_for_the_users_metric():
    torch.manual_seed(0)
    batches = [(x, (x[:, 0] > 0).long()) for x in vectors()]
    model = mlp()
    model.append(nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(3):
        for x, labels in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), labels).backward()
            optimizer.step()
    model[1].running_mean += 3
    adjusted = adjust(copy.deepcopy(model), batches)
    table = compare({"before": model, "after": adjusted}, batches).set_index("model")
    assert table.eval_mode["before"] < 75 < 95 < table.eval_mode["after"]
    assert table.train_mode["before"] == table.train_mode["after"] > 95


def test_replaced_noise_has_the_variance_and_the_sharing_of_the_dropout():
    model = nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(0.2), nn.Dropout2d(0.2))
    for noise in ("uout", "gaussian"):
        replaced = replace_noise(model, noise)
        assert isinstance(model[1], nn.Dropout)
        factor = replaced[1](torch.ones(50, 4, 20, 20))
        assert float(factor.mean()) == pytest.approx(1, abs=0.01)
        assert float(factor.var()) == pytest.approx(0.25, rel=0.03)
        factor = replaced[2](torch.ones(3000, 4, 2, 2))
        assert float(factor[:, :, 0, 0].var()) == pytest.approx(0.25, rel=0.06)
        assert (factor == factor[:, :, :1, :1]).all()
        assert (replaced.eval()[1](factor) == factor).all()
    assert replace_noise(model, "uout", 0.0033)[1].noise_variance == 0.0033
    with pytest.raises(AuditError, match=r"noise variance of 'uout' is 1\.0"):
        replace_noise(nn.Sequential(nn.Dropout(0.5)), "uout")
    with pytest.raises(AuditError, match="no Dropout module"):
        replace_noise(mlp(), "gaussian")
    with pytest.raises(AuditError, match="allowed is uout or gaussian"):
        MultiplicativeNoise("dropout", 0.1)
