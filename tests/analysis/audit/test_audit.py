"""What the audit finds: planted shifts, and none where there is none."""

import math
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from analysis.audit import AuditError, MultiplicativeNoise, adjust, audit, diagnosis
from analysis.theory import noise_variance
from tests.analysis.audit.audit_models import convnet, images, mlp, trained, vectors


def row_of(table, name):
    return table.set_index("layer_name").loc[name]


def plain_variances(model, batches, own_noise=None):
    """Channel-mean unbiased variance of the last layer's input, over all batches at once: the obvious way."""
    inputs = []
    hook = model[-1].register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    with torch.no_grad():
        for x in batches:
            model(x)
    hook.remove()
    rows = torch.cat(inputs).transpose(0, 1).flatten(1).double()
    return float(rows.var(1).mean())


@pytest.mark.parametrize("factor", [0.25, 0.8, 3.0])
@pytest.mark.parametrize("planted", ["1", "4", "7"])
def test_a_scaled_running_variance_is_found_in_its_layer_with_its_size(planted, factor):
    batches = vectors()
    model = adjust(mlp(), batches).eval()
    model.get_submodule(planted).running_var *= factor
    table = audit(model, batches)
    row = row_of(table, planted)
    assert [name for name, alarm in zip(table.layer_name, table.alarm, strict=True) if "lag" in alarm] == [
        planted
    ]
    assert row.lag_ratio == pytest.approx(1 / factor, rel=1e-4)
    assert row.shift_ratio_low < 1 / factor < row.shift_ratio_high
    assert "noise" not in ",".join(table.alarm)
    assert diagnosis(table).index(f"  {planted}: eval variance") > 0


@pytest.mark.parametrize(
    ("noise", "sigma2"),
    [
        (nn.Dropout(0.5), noise_variance("dropout", 0.5)),
        (nn.Dropout2d(0.3), noise_variance("dropout", 0.3)),
        (MultiplicativeNoise("uout", 0.3), 0.3),
        (MultiplicativeNoise("gaussian", 0.5, per_channel=True), 0.5),
    ],
)
def test_noise_before_a_layer_is_found_there_with_the_size_of_the_exact_law(noise, sigma2):
    batches = images(batches=20)
    model = trained(convnet(noise), batches)
    table = audit(model, batches)
    assert list(table.alarm.str.contains("noise")) == [False, True]
    row = row_of(table, "5")
    assert "3 (" in row.own_noise
    model.train()
    model[3].eval()
    # The clean signal by hand: variance of the convolution's output, and what the noise adds by brute force.
    with torch.no_grad():
        added, clean = 0.0, []
        for x in batches:
            h = F.relu(F.batch_norm(model[0](x), None, None, model[1].weight, model[1].bias, training=True))
            clean.append(F.conv2d(h, model[4].weight, stride=2, groups=2))
            if "2d" in type(noise).__name__ or getattr(noise, "per_channel", False):
                parts = [
                    F.conv2d(h * (torch.arange(8) == c).view(1, 8, 1, 1), model[4].weight, stride=2, groups=2)
                    for c in range(8)
                ]
                added += sum(part.square().mean() for part in parts) / len(batches)
            else:
                added += F.conv2d(h**2, model[4].weight ** 2, stride=2, groups=2).mean() / len(batches)
    variance = torch.cat(clean).transpose(0, 1).flatten(1).var(1).mean()
    expected = float(variance / (variance + sigma2 * added))
    assert row.local_ratio_exact == pytest.approx(expected, rel=0.03)
    assert row.noise_ratio_low < expected * 1.01
    assert row.noise_ratio_high > expected * 0.99
    assert row.local_ratio == pytest.approx(expected, rel=0.1)


def test_variances_equal_the_obvious_ones():
    batches = vectors(features=16)
    batches[3] = batches[3][:17]
    model = trained(mlp(nn.Dropout(0.4)), batches)
    table = audit(model, batches)
    row = table.iloc[-1]
    assert row.test_var == pytest.approx(plain_variances(model, batches), rel=1e-5)
    model.train()
    model[3].eval()
    assert row.clean_var == pytest.approx(plain_variances(model, batches), rel=1e-5)
    assert row.shift_ratio == pytest.approx(row.noise_ratio * row.lag_ratio * row.upstream_ratio)
    assert row.shift_ratio == pytest.approx(row.local_ratio * row.cascade * row.lag_ratio)


class Functional(nn.Module):
    """Dropout and stochastic depth as functions inside forward, with control flow that fx cannot trace."""

    def __init__(self, drop):
        super().__init__()
        self.drop = drop
        self.stem, self.norm1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv, self.norm2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

    def forward(self, x):
        if x.sum() > 1e9:
            return x
        x = F.relu(self.norm1(self.stem(x)))
        return self.norm2(self.conv(self.drop(x, self.training)))


def inverted_floor(x, training):
    if not training:
        return x
    keep = 0.6
    return x / keep * torch.floor(keep + torch.rand(x.shape[0], 1, 1, 1))


def bernoulli(x, training):
    return x * x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(0.6).div_(0.6) if training else x


def compared(x, training):
    return x * (torch.rand_like(x) < 0.6) / 0.6 if training else x


@pytest.mark.parametrize(
    "drop",
    [lambda x, training: F.dropout(x, 0.4, training), inverted_floor, bernoulli, compared],
    ids=["F.dropout", "floor", "bernoulli", "compared"],
)
def test_noise_inside_a_forward_is_seen_with_its_exact_size(drop):
    torch.manual_seed(0)
    batches = images(batches=24, batch=64)
    table = audit(trained(Functional(drop), batches), batches)
    row = row_of(table, "norm2")
    assert row.own_noise
    assert not row_of(table, "norm1").own_noise
    assert "noise" in row.alarm
    assert row.local_ratio_exact == pytest.approx(row.noise_ratio, rel=0.05)
    assert row.local_ratio == pytest.approx(row.noise_ratio, rel=0.15)


def test_no_alarm_without_noise_over_20_seeds():
    alarms = []
    for seed in range(20):
        batches = vectors(seed=seed)
        table = audit(trained(mlp(seed=seed), batches), vectors(seed=100 + seed), vectors(seed=200 + seed))
        alarms += [
            (seed, name, alarm) for name, alarm in zip(table.layer_name, table.alarm, strict=True) if alarm
        ]
        assert "No shift" in diagnosis(table) or alarms
    assert not alarms


def test_few_updates_are_a_lag_and_nothing_else():
    batches = vectors()
    table = audit(trained(mlp(), batches[:3], passes=1), batches)
    assert set(",".join(table.alarm).split(",")) <= {"lag", "upstream", ""}
    assert "lag" in row_of(table, "1").alarm
    assert "after only 3 updates" in diagnosis(table)


def test_other_evaluation_data_are_told_apart_from_training():
    batches = vectors()
    table = audit(adjust(mlp(), batches), batches, [1.5 * x for x in vectors(seed=1)])
    assert "data" in row_of(table, "1").alarm
    assert row_of(table, "1").data_ratio_low < 1.5**2 < row_of(table, "1").data_ratio_high
    assert not {"noise", "lag", "upstream"} & set(",".join(table.alarm).split(","))
    assert "Data that differ: yes" in diagnosis(table)


def test_intervals_cover_as_often_as_they_say():
    """Var_test / moving_var against its value over many samples: 95 % intervals, 200 small audits' worth."""
    from analysis.audit.moments import GroupedMoments, ratio

    covered = 0
    generator = torch.Generator().manual_seed(0)
    scales = torch.linspace(0.5, 2, 6)
    for _ in range(400):
        clean, noisy = GroupedMoments(), GroupedMoments()
        for _ in range(5):
            x = torch.randn(30, 6, generator=generator) * scales
            clean.update(x)
            noisy.update(x * (torch.rand(30, 6, generator=generator) < 0.5) * 2)
        low, high = ratio(clean, noisy).interval()
        covered += low < 0.5 < high
    assert 0.92 <= covered / 400 <= 0.98


def test_the_grouped_moments_are_those_of_all_samples():
    from analysis.audit.moments import GroupedMoments

    moments = GroupedMoments()
    parts = [1000 + torch.randn(size, 3, 4, 5, dtype=torch.double) * 0.1 for size in (7, 1, 32, 50)]
    for part in parts:
        moments.update(part)
    rows = torch.cat(parts).transpose(0, 1).flatten(1)
    np.testing.assert_allclose(moments.variance, rows.var(1), rtol=1e-9)
    np.testing.assert_allclose(moments.mean, rows.mean(1), rtol=1e-12)
    group = torch.arange(90) % 20 != 4
    expected = torch.cat(parts)[group].transpose(0, 1).flatten(1).var(1).mean()
    assert moments.layer_variances_without_each_group()[4] == pytest.approx(float(expected), rel=1e-9)


def test_plain_sentences():
    x = vectors(2)
    with pytest.raises(AuditError, match="no BatchNorm layer"):
        audit(nn.Linear(16, 2), x)
    with pytest.raises(AuditError, match="lazy layers"):
        audit(nn.Sequential(nn.LazyLinear(4), nn.BatchNorm1d(4)), x)
    with pytest.raises(AuditError, match="forward failed in train mode with noise off: RuntimeError: mat1"):
        audit(mlp(features=3), x)
    with pytest.raises(AuditError, match="NaN or infinite numbers reach the BN layer 1 first"):
        audit(mlp(), [x[0] * math.nan])
    with pytest.raises(AuditError, match="no batches"):
        audit(mlp(), [])
    shared = nn.BatchNorm1d(16)
    table = audit(nn.Sequential(shared, nn.Linear(16, 16), shared), x)
    assert "is shared: 2 calls" in diagnosis(table)
    table = audit(nn.Sequential(nn.BatchNorm1d(16, track_running_stats=False)), x)
    assert "track_running_stats=False" in diagnosis(table)
    assert math.isnan(table.shift_ratio[0])
    assert "the network has none" in diagnosis(audit(mlp(), x))


def test_memory_does_not_grow_with_the_number_of_batches():
    alive, most = weakref.WeakSet(), []

    def batches(count):
        for _ in range(count):
            x = torch.randn(32, 16)
            alive.add(x.untyped_storage())
            most.append(len(alive))
            yield x

    model = trained(mlp(nn.Dropout(0.5)), vectors())
    for function in (audit, adjust):
        function(model, batches(24))
        assert max(most) <= 3  # the one at work, the one held back, the one being made
