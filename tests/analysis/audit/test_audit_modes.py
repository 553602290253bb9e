"""Train and eval mode are what the model's own `train()` and `eval()` make of it; each difference has its name."""

import itertools
import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from analysis.audit import AuditError, accuracy, adjust, audit, compare, diagnosis
from analysis.audit.__main__ import main
from analysis.audit.page import write_files
from tests.analysis.audit.audit_models import fitted, images, mlp, trained, vectors


def state_of(model: nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def modes_of(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


class Frozen(nn.Sequential):
    """BN stays in eval mode, as in fine-tuning."""

    def train(self, mode: bool = True):
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eval()
        return self


class FrozenNorm(nn.BatchNorm1d):
    def train(self, mode: bool = True):
        return super().train(False)


def frozen_by_train() -> nn.Module:
    return Frozen(*trained(mlp(), vectors()))


def frozen_by_a_submodule() -> nn.Module:
    model = trained(mlp(), vectors())
    for index in (1, 4, 7):
        norm = FrozenNorm(32)
        norm.load_state_dict(model[index].state_dict())
        model[index] = norm
    return model.eval()


def frozen_by_a_hook() -> nn.Module:
    model = trained(mlp(), vectors())
    model.register_forward_pre_hook(freeze)
    return model


def freeze(model: nn.Module, _) -> None:
    for index in (1, 4, 7):
        model.get_submodule(str(index)).eval()


def frozen_by_a_hook_in_train_mode() -> nn.Module:
    model = trained(mlp(), vectors())
    model.register_forward_pre_hook(lambda model, _: freeze(model, _) if model.training else None)
    return model


FROZEN = [frozen_by_train, frozen_by_a_submodule, frozen_by_a_hook, frozen_by_a_hook_in_train_mode]
OTHER = [3 * x + 1 for x in vectors(seed=1)]  # nothing that is frozen fits these


@pytest.mark.parametrize("build", FROZEN)
def test_frozen_layers_are_said_and_nothing_is_alarmed_nor_adjusted(build):
    model = build()
    before, modes = state_of(model), modes_of(model)
    table = audit(model, OTHER)
    assert (table.keeps == "eval").all()
    assert (table.alarm == "").all()
    said = diagnosis(table)
    assert "1, 4, 7 stay in eval mode after model.train(): frozen, so train and eval agree there" in said
    assert "do not adjust" in said
    assert "What to do" not in said
    assert adjust(model, OTHER) is model
    assert (state_of(model), modes_of(model)) == (before, modes)


@pytest.mark.parametrize("build", FROZEN)
def test_frozen_layers_are_adjusted_on_request(build):
    model, plain = build(), trained(mlp(), vectors())
    adjust(model, OTHER, frozen="adjust")
    adjust(plain, OTHER)
    for index in (1, 4, 7):
        assert torch.equal(model[index].running_var, plain[index].running_var)
    with pytest.raises(AuditError, match="frozen=no: allowed is keep or adjust"):
        adjust(model, OTHER, frozen="no")


def test_beside_a_frozen_layer_the_others_are_measured_and_adjusted():
    model = trained(mlp(nn.Dropout(0.5)), vectors())
    frozen = FrozenNorm(32)
    frozen.load_state_dict(model[1].state_dict())
    frozen.running_var *= 4
    model[1] = frozen.eval()
    before = frozen.running_var.clone()
    table = audit(model, vectors()).set_index("layer_name")
    assert list(table["keeps"]) == ["eval", "", ""]
    assert table.alarm["1"] == ""
    assert "noise" in table.alarm["5"]
    adjust(model, vectors())
    assert torch.equal(frozen.running_var, before)
    assert (audit(model, vectors()).alarm == "").all()


def digits_batches(scale) -> list[tuple[Tensor, Tensor]]:
    digits = load_digits()
    x, y = scale(torch.tensor(digits.data / 16, dtype=torch.float)), torch.tensor(digits.target)
    return list(zip(x[:1200].split(60), y[:1200].split(60), strict=True))


def test_a_network_tuned_with_frozen_bn_is_sound_and_following_the_advice_leaves_it_so():
    torch.manual_seed(0)
    layers = [
        nn.Linear(64, 64),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.BatchNorm1d(64),
        nn.ReLU(),
    ]
    model = fitted(nn.Sequential(*layers, nn.Linear(64, 10)), digits_batches(lambda x: x), epochs=12)
    tuned_on = digits_batches(lambda x: 1 - x)
    model = fitted(Frozen(*model), tuned_on, epochs=12, lr=0.01)
    (row,) = compare({"tuned": model}, tuned_on).to_dict("records")
    assert row["train_mode"] == row["eval_mode"] == accuracy(model, tuned_on) > 80
    assert "1, 4 stay in eval mode after model.train(): frozen" in diagnosis(audit(model, tuned_on))
    assert accuracy(adjust(model, tuned_on), tuned_on) == row["eval_mode"]
    assert accuracy(adjust(model, tuned_on, frozen="adjust"), tuned_on) < 80


NETWORK = """
import torch
from torch import nn
from tests.analysis.audit.test_audit_modes import frozen_by_train

def build(): return nn.Sequential(frozen_by_train(), nn.Linear(32, 2))
def batches(): return [(3 * torch.randn(64, 16), torch.arange(64) % 2) for _ in range(4)]

class Always(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 2)
    def forward(self, x): return nn.functional.dropout(self.layer(x), 0.5)
"""


def test_the_command_line_takes_the_users_modes_and_keeps_what_is_frozen(tmp_path, monkeypatch, capsys):
    (tmp_path / "frozen_network.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = ["target=frozen_network:build", "data=frozen_network:batches"]
    assert main(settings) == 0
    shown = capsys.readouterr().out
    assert "frozen, so train and eval agree there" in shown
    before, _ = (line.split()[-2:] for line in shown.splitlines()[-4:-2])
    assert before[0] == before[1]
    assert main([*settings, "frozen=adjust"]) == 0
    assert main([*settings, "frozen=maybe"]) == 2
    assert "frozen=maybe: allowed is keep or adjust" in capsys.readouterr().err
    assert main(["target=frozen_network:Always", "data=frozen_network:batches"]) == 0
    assert "the model: F.dropout 0.5 is random in eval mode too" in capsys.readouterr().out


def test_layers_frozen_by_hand_which_train_undoes_are_said():
    model = trained(mlp(), vectors()).train()
    model[4].eval()
    said = diagnosis(audit(model, vectors()))
    assert "4 was in eval mode while the model was in train mode; model.train() undoes that" in said
    assert "Mixed modes" not in diagnosis(audit(model.train(), vectors()))


class AlwaysOn(nn.Dropout):
    def train(self, mode: bool = True):
        return super().train(True)


class Deaf(nn.Sequential):
    """Its eval() does nothing."""

    def eval(self):
        return self


def test_dropout_that_eval_leaves_on_is_said_with_and_without_bn():
    with_bn = trained(mlp(AlwaysOn(0.5)), vectors(), passes=6)
    table = audit(with_bn, vectors())
    assert (table.alarm == "").all()
    assert "3 (AlwaysOn 0.5) is random in eval mode too, as it is on after eval() too" in diagnosis(table)
    for norm in (nn.GroupNorm(2, 8), nn.LayerNorm(8), nn.Identity()):
        table = audit(nn.Sequential(nn.Linear(16, 8), AlwaysOn(0.5), norm), vectors(3))
        assert len(table) == 0
        assert "1 (AlwaysOn 0.5) is random in eval mode too, as it is on after eval() too" in diagnosis(table)


def test_an_eval_that_does_nothing_is_said_of_bn_and_dropout():
    model = Deaf(*mlp(nn.Dropout(0.5)))
    trained(model, vectors())
    table = audit(model, vectors())
    assert (table.keeps == "train").all()
    assert (table.alarm == "").all()
    said = diagnosis(table)
    assert "1, 5, 8 normalise by the batch in eval mode too" in said
    assert "3 (Dropout 0.5) is random in eval mode too, as it is on after eval() too" in said


class Merging(nn.Module):
    """eval() merges a part of the weights, train() takes it out again, as adapters do."""

    def __init__(self):
        super().__init__()
        self.layers, self.delta, self.is_merged = mlp(), nn.Parameter(torch.full((32, 16), 0.1)), False

    def train(self, mode: bool = True):
        super().train(mode)
        if self.is_merged == mode:
            self.layers[0].weight.data.add_(self.delta.data if not mode else -self.delta.data)
            self.is_merged = not mode
        return self

    def forward(self, x):
        first = self.layers[0](x)
        return self.layers[1:](first if self.is_merged else first + x @ self.delta.T)


@pytest.mark.parametrize("mode", [True, False])
def test_what_train_and_eval_do_beside_setting_flags_is_done_and_undone(mode):
    model = Merging()
    trained(model, vectors())
    model.train(mode)
    before = state_of(model)
    table = audit(model, vectors())
    assert (table.alarm == "").all()
    assert not table.attrs["differs"]
    assert state_of(model) == before
    assert model.is_merged is not mode


def test_a_train_that_fails_is_one_sentence():
    class Broken(nn.Sequential):
        def train(self, mode: bool = True):
            raise RuntimeError("not today")

    with pytest.raises(AuditError, match=r"The model's train\(\) failed: RuntimeError: not today"):
        audit(Broken(*mlp()), vectors(1))


class Net(nn.Module):
    """BN layers `first` and `n`; `function(network, x)` acts before the second."""

    def __init__(self, function, norm=nn.BatchNorm1d, noise: nn.Module | None = None):
        super().__init__()
        torch.manual_seed(0)
        self.function, self.noise = function, noise or nn.Identity()
        self.enter, self.first = nn.Linear(16, 32), norm(32)
        self.layer, self.extra, self.n = nn.Linear(32, 32), nn.Linear(32, 32), norm(32)

    def forward(self, x):
        x = F.relu(self.first(self.enter(x)))
        return self.n(self.function(self, self.layer(self.noise(x))))


BRANCHES = {
    "scaled": lambda net, x: x / 3 if net.training else x,
    "skipped": lambda net, x: x + net.extra(x) if net.training else x,
    "expected depth": lambda net, x: x + net.extra(x) * (1.0 if net.training else 0.5),
    "moved": lambda net, x: x if net.training else x + 1,
    "asks the norm": lambda net, x: x / 3 if net.first.training else x,
}


@pytest.mark.parametrize("name", BRANCHES)
def test_a_branch_on_the_mode_is_no_noise_and_is_placed(name):
    model = trained(Net(BRANCHES[name]), vectors(), passes=6)
    table = audit(model, vectors()).set_index("layer_name")
    said = diagnosis(table.reset_index())
    if name == "asks the norm":  # what earlier layers stored is changed by the same switch
        assert "noise" not in said.split("What to do")[-1]
        assert table.alarm["n"] in ("upstream", "branch")
        return
    assert (table.alarm["first"], table.alarm["n"]) == ("", "branch")
    assert table.upstream_ratio["n"] == pytest.approx(1, abs=0.03)
    assert table.noise_ratio["n"] == 1
    assert "n gets something else in train than in eval mode, the same each time" in said
    assert "look for self.training before it; it begins in the model" in said
    assert "Noise before BN: no" in said
    assert "replace_noise" not in said


class Scaled(nn.Module):
    def forward(self, x):
        return x / 3 if self.training else x


def test_before_the_first_norm_nothing_is_put_down_to_earlier_layers():
    model = trained(nn.Sequential(Scaled(), *mlp()), vectors())
    table = audit(model, vectors()).set_index("layer_name")
    assert table.alarm["2"] == "branch"
    assert table.branch_ratio["2"] == pytest.approx(9, rel=1e-3)
    assert "it begins in 0" in diagnosis(table.reset_index())


def test_a_branch_beside_noise_is_told_from_it():
    model = trained(mlp(nn.Dropout(0.5), Scaled()), vectors())
    table = audit(model, vectors()).set_index("layer_name")
    row = table.loc["6"]
    assert set(row.alarm.split(",")) == {"noise", "branch"}
    assert row.noise_ratio == pytest.approx(row.local_ratio_exact, rel=0.05)
    assert row.branch_ratio == pytest.approx(9, rel=0.3)
    assert row.shift_ratio == pytest.approx(
        row.noise_ratio * row.branch_ratio * row.lag_ratio * row.upstream_ratio
    )
    assert "it begins in 4" in diagnosis(table.reset_index())


def test_a_branch_is_told_from_noise_in_the_same_forward():
    def both(net, x):
        return F.dropout(x / 3 if net.training else x, 0.5, net.training)

    table = audit(trained(Net(both), vectors(), passes=3), vectors()).set_index("layer_name")
    row = table.loc["n"]
    assert set(row.alarm.split(",")) == {"noise", "branch"}
    assert row.branch_ratio == pytest.approx(9, rel=1e-3)
    assert row.noise_ratio == pytest.approx(row.local_ratio, rel=0.1)


def test_an_auxiliary_head_that_training_alone_has_is_no_noise():
    class Inception(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.aux, self.head = mlp(), nn.BatchNorm1d(32), nn.BatchNorm1d(32)

        def forward(self, x):
            x = self.body(x)
            return (self.head(x), self.aux(x)) if self.training else self.head(x)

    table = audit(trained(Inception(), vectors(), passes=6), vectors())
    assert (table.alarm == "").all()
    assert "aux: not measured, as it is used in train mode only" in diagnosis(table)


def test_noise_from_outside_all_generators_is_noise_and_no_branch():
    def hidden(net, x):
        return x * (1 + np.frombuffer(os.urandom(1), np.uint8)[0] / 64) if net.training else x

    table = audit(trained(Net(hidden), vectors()), vectors()).set_index("layer_name")
    assert "noise" in table.alarm["n"]
    assert "branch" not in table.alarm["n"]
    assert "noise that has no name" in diagnosis(table.reset_index())


def test_noise_from_outside_that_repeats_itself_at_first_is_no_branch():
    factors = itertools.cycle([2.0, 2.0, 2.0, 1.0, 4.0])

    def hidden(net, x):
        return x * next(factors) if net.training else x

    table = audit(trained(Net(hidden), vectors(), passes=5), vectors()).set_index("layer_name")
    assert "noise" in table.alarm["n"]
    assert "branch" not in table.alarm["n"]


class Own(nn.Module):
    """BN written by hand, with buffers of other names and shapes."""

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("ema_mu", torch.zeros(1, channels))
        self.register_buffer("ema_v", torch.ones(1, channels))

    def forward(self, x):
        mean, variance = self.ema_mu, self.ema_v
        if self.training:
            mean, variance = x.mean(0, keepdim=True), x.var(0, correction=0, keepdim=True)
            self.ema_mu = 0.9 * self.ema_mu + 0.1 * mean.detach()
            self.ema_v = 0.9 * self.ema_v + 0.1 * variance.detach()
        return (x - mean) / (variance + 1e-5).sqrt()


class Functional(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x):
        return F.batch_norm(x, self.running_mean, self.running_var, training=self.training)


@pytest.mark.parametrize(("norm", "buffer"), [(Own, "ema_v"), (Functional, "running_var")])
def test_norms_that_are_none_of_torch_s_are_audited_and_adjusted(norm, buffer):
    model = trained(Net(lambda _, x: x, norm), vectors(), passes=6)
    table = audit(model, vectors())
    assert list(table.layer_name) == ["first", "n"]
    assert (table.alarm == "").all()
    model.first.get_buffer(buffer).mul_(4)
    before = state_of(model)
    table = audit(model, vectors()).set_index("layer_name")
    assert dict(table.alarm) == {"first": "lag", "n": "upstream"}
    assert table.lag_ratio_low["first"] < 0.25 < table.lag_ratio_high["first"]
    assert state_of(model) == before
    assert (audit(adjust(model, vectors()), vectors()).alarm == "").all()


def instance_net() -> nn.Sequential:
    torch.manual_seed(0)
    norm = nn.InstanceNorm2d(8, track_running_stats=True)
    return nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))


def test_instance_norm_with_running_statistics_is_audited_and_said():
    model = trained(instance_net(), images(), passes=6)
    table = audit(model, images())
    assert list(table.layer_name) == ["1", "4"]
    assert (table.alarm == "").all()
    assert "Each sample by itself: so 1 normalises in train mode" in diagnosis(table)
    model[1].running_var *= 4
    table = audit(model, images()).set_index("layer_name")
    assert dict(table.alarm) == {"1": "lag", "4": "upstream"}
    assert table.lag_ratio_low["1"] < 0.25 < table.lag_ratio_high["1"]
    assert (audit(adjust(model, images()), images()).alarm == "").all()
    assert len(audit(model[:3], images())) == 1


class LogScale(nn.Module):
    """Stores something that is neither a mean nor a variance."""

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("scale", torch.ones(channels))

    def forward(self, x):
        scale = self.scale
        if self.training:
            scale = x.std(0).log()
            self.scale.lerp_(scale, 0.1)
        return x / scale.exp()


def test_a_norm_that_cannot_be_read_is_named_and_its_effect_shows_behind_it():
    model = nn.Sequential(nn.Linear(16, 32), LogScale(32), nn.Linear(32, 32), nn.BatchNorm1d(32))
    table = audit(trained(model, vectors(), passes=6), vectors())
    assert "1 (LogScale) uses in eval mode what train mode stores" in diagnosis(table)
    assert table.upstream_ratio[0] == pytest.approx(1, abs=0.05)
    model[1].scale += 1
    assert audit(model, vectors()).alarm[0] == "upstream"
    assert "1 (LogScale) uses in eval mode" in diagnosis(audit(model[:3], vectors()))


class Within(nn.Module):
    """Norm and dropout as functions, in one forward with a layer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 32)
        self.register_buffer("mu", torch.zeros(32))
        self.register_buffer("v", torch.ones(32))

    def forward(self, x):
        x = F.batch_norm(self.layer(x), self.mu, self.v, training=self.training)
        return F.dropout(x, 0.1, self.training)


def test_a_functional_norm_amid_other_layers_is_named():
    model = nn.Sequential(Within(), nn.Linear(32, 32), nn.BatchNorm1d(32))
    before = state_of(model)
    said = diagnosis(audit(model, vectors()))
    assert "0 (Within) calls torch's norm with buffers of its own" in said
    assert "random in eval mode" not in said
    assert state_of(model) == before
    assert "0 (Within) calls torch's norm" in diagnosis(audit(model[:2], vectors()))


class ActNorm(nn.Module):
    """Takes its scale from the first batch in train mode."""

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("is_set", torch.tensor(0.0))
        self.shift, self.scale = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.ones(channels))

    def forward(self, x):
        if self.training and not self.is_set:
            self.shift.data, self.scale.data = -x.detach().mean(0), 1 / x.detach().std(0)
            self.is_set.fill_(1)
        return (x + self.shift) * self.scale


def test_what_the_first_batch_sets_is_set_back_and_is_a_branch_until_it_is_set():
    model = nn.Sequential(nn.Linear(16, 32), ActNorm(32), nn.Linear(32, 32), nn.BatchNorm1d(32))
    before = state_of(model)
    assert "branch" in audit(model, vectors()).alarm[0]
    assert state_of(model) == before
    table = audit(trained(model, vectors(), passes=6), vectors())
    assert table.alarm[0] == ""
    assert not table.attrs["differs"]


class Encoder(nn.Module):
    def __init__(self, rate: float, norm: bool = True):
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(16, 2, 32, rate, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.n = nn.BatchNorm1d(16) if norm else nn.Identity()

    def forward(self, x, mask):
        return self.n(self.encoder(x, src_key_padding_mask=mask).mT)


def padded(length: int) -> list[tuple[Tensor, Tensor]]:
    generator, batches = torch.Generator().manual_seed(0), []
    for _ in range(17):
        ends = torch.randint(length, 11, (32, 1), generator=generator)
        mask = torch.arange(10) >= ends
        mask[0] = False
        batches.append((torch.randn(32, 10, 16, generator=generator), mask))
    return batches


def trained_on(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> nn.Module:
    model.train()
    with torch.no_grad():
        for inputs in batches * 3:
            model(*inputs)
    return model.eval()


@pytest.mark.filterwarnings("ignore:.*nested tensors:UserWarning")
@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_the_fast_path_of_transformers_is_a_branch_on_the_mode(rate):
    batches = padded(3)
    model = trained_on(Encoder(rate), batches)
    table = audit(model, batches)
    assert table.alarm[0] == "branch"
    assert "it begins in encoder, and torch's fast path for transformers" in diagnosis(table)
    assert torch.backends.mha.get_fastpath_enabled()
    assert (audit(adjust(model, batches), batches).alarm == "").all()
    said = diagnosis(audit(Encoder(rate, norm=False), batches))
    assert "the output is something else in train than in eval mode" in said
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        table = audit(trained_on(Encoder(rate), batches), batches)
        assert "branch" not in table.alarm[0]
        assert not torch.backends.mha.get_fastpath_enabled()
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


@pytest.mark.filterwarnings("ignore:.*nested tensors:UserWarning")
@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_the_fast_path_where_nothing_is_padded_is_not_told(rate):
    batches = padded(10)
    table = audit(trained_on(Encoder(rate), batches), batches)
    assert not table.attrs["differs"]
    assert "branch" not in table.alarm[0]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.layer = nn.LayerNorm(16), nn.Linear(16, 16)

    def forward(self, x):
        return self.layer(F.dropout(self.norm(x), 0.5))


def test_a_network_without_bn_is_looked_at_whole(tmp_path):
    model = nn.Sequential()
    model.block1, model.block2 = nn.Linear(16, 16), Block()
    table = audit(model, vectors(3))
    said = diagnosis(table)
    assert "block2: F.dropout 0.5 is random in eval mode too" in said
    assert "shift" not in said
    assert "nothing" not in said
    assert len(table) == 0
    assert {"layer_name", "alarm", "shift_ratio"} <= set(table)
    write_files(table, tmp_path, "no norm")
    said = diagnosis(audit(nn.Sequential(nn.Linear(16, 16), Scaled(), nn.Dropout(0.3)), vectors(3)))
    assert "the output is something else in train than in eval mode" in said
    assert "it begins in 1" in said
    with pytest.raises(
        AuditError, match="no BatchNorm layer, and nothing else in it depends on train and eval"
    ):
        audit(nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.3), nn.LayerNorm(16)), vectors(3))
    with pytest.raises(AuditError, match="no BatchNorm layer, nor anything else that stores statistics"):
        adjust(nn.Linear(16, 16), vectors(3))


class AlwaysTraining(nn.BatchNorm1d):
    def forward(self, x):
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, True, 0.1, self.eps
        )


class UpdatesAlways(nn.BatchNorm1d):
    """Normalises by its buffers in eval mode, and moves them too."""

    def forward(self, x):
        y = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.1)
        if not self.training:
            F.batch_norm(x, self.running_mean, self.running_var, training=True)
        return y


@pytest.mark.parametrize("norm", [AlwaysTraining, UpdatesAlways])
def test_norms_that_update_whenever_they_run_are_seen_and_every_pass_begins_alike(norm):
    model = trained(mlp(), vectors())
    odd = norm(32)
    odd.load_state_dict(model[1].state_dict())
    odd.running_var *= 25
    model[1] = odd.eval()
    before = state_of(model)
    table = audit(model, vectors(40)).set_index("layer_name")
    said = diagnosis(table.reset_index())
    assert "1 changes running_mean, running_var in every run, in eval mode too" in said
    assert state_of(model) == before
    inputs = []  # what the next layer gets from the stored buffers
    hook = model[4].register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach()))
    for x in vectors(40):
        model(x)
        odd.running_mean.copy_(torch.frombuffer(bytearray(before["1.running_mean"]), dtype=torch.float))
        odd.running_var.copy_(torch.frombuffer(bytearray(before["1.running_var"]), dtype=torch.float))
    hook.remove()
    assert table.test_var["4"] == pytest.approx(float(torch.cat(inputs).var(0).mean()), rel=1e-4)
    if norm is AlwaysTraining:
        assert table["keeps"]["1"] == "train"
        assert (table.alarm == "").all()
        assert "1 normalises by the batch in eval mode too" in said
    else:
        assert "lag" in table.alarm["1"]


NORMED = {
    "spectral, old": nn.utils.spectral_norm,
    "spectral": nn.utils.parametrizations.spectral_norm,
    "weight, old": nn.utils.weight_norm,
    "weight": nn.utils.parametrizations.weight_norm,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("name", NORMED)
def test_parametrisations_begin_every_pass_alike_and_raise_no_alarm(name):
    model = mlp()
    for index in (0, 3):
        NORMED[name](model[index])
    trained(model, vectors(), passes=6)
    before = state_of(model)
    table = audit(model, vectors())
    assert (table.alarm == "").all()
    assert state_of(model) == before
    again = audit(model, vectors())
    assert again.equals(table)
    adjust(model, vectors())
    assert (audit(model, vectors()).alarm == "").all()


class Counting(nn.Module):
    """Changes what it does with every call."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.calls


def test_python_state_begins_every_pass_alike():
    model = adjust(nn.Sequential(Counting(), *mlp()), vectors())
    table = audit(model, vectors())
    assert (table.alarm == "").all()
    assert model[0].calls == 0
