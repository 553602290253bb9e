"""The adjustment removes the shift, the replacement keeps the variance."""

import copy
import threading

import pytest
import torch
from torch import nn

from analysis.audit import AuditError, MultiplicativeNoise, adjust, audit, compare, replace_noise
from tests.analysis.audit.audit_models import convnet, images, mlp, trained, vectors


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


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_noise_is_replaced_in_a_model_amid_a_graph_of_gradients():
    model = nn.Sequential(nn.utils.weight_norm(nn.Linear(16, 4)), nn.Dropout(0.2), nn.BatchNorm1d(4))
    x = vectors(1)[0]
    model(x).sum().backward()
    replaced = replace_noise(model)
    assert isinstance(replaced[1], MultiplicativeNoise)
    assert replaced.eval()(x).equal(model.eval()(x))


def test_a_model_that_cannot_be_copied_is_said():
    model = mlp(nn.Dropout(0.2))
    model.lock = threading.Lock()
    with pytest.raises(
        AuditError, match=r"The model cannot be copied: TypeError: cannot pickle '_thread\.lock'"
    ):
        replace_noise(model)


def test_adjusting_says_so_where_no_batch_reaches_a_layer():
    model = nn.Linear(16, 3)
    model.unused = nn.BatchNorm1d(4)
    with pytest.raises(AuditError, match="No batch reaches a BN layer that stores statistics"):
        adjust(model, vectors(2))
