"""Every noise that a network can have is found, named, and told from what is before the last BN."""

import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from analysis.audit import MultiplicativeNoise, audit, diagnosis
from experiments.networks.network import NoiseSite
from tests.analysis.audit.audit_models import trained


class Around(nn.Module):
    """BN layers `first`, `second` and `third`; `noise` acts between the first two."""

    def __init__(self, noise: nn.Module, dimensions: int):
        super().__init__()
        convolution = {0: nn.Linear, 1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
        norm = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dimensions]
        size = () if dimensions == 0 else (1,)
        self.stem, self.first = convolution(4, 12, *size), norm(12)
        self.noise = noise
        self.layer, self.second = convolution(12, 12, *size), norm(12)
        self.last, self.third = convolution(12, 12, *size), norm(12)

    def forward(self, x):
        x = F.relu(self.first(self.stem(x)))
        x = F.relu(self.second(self.layer(self.noise(x))))
        return self.third(self.last(x))


class Function(nn.Module):
    """A noise that is a function, without any module that would give it away."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x, self.training)


class DropPath(nn.Module):
    """Stochastic depth with its branch, as timm and torchvision have it."""

    def __init__(self, keep=0.5, size=1):
        super().__init__()
        self.branch, self.keep = nn.Conv2d(12, 12, 1), keep

    def forward(self, x):
        branch = self.branch(x)
        if self.training:
            mask = branch.new_empty((len(x),) + (1,) * (x.dim() - 1)).bernoulli_(self.keep)
            branch = branch * mask.div_(self.keep)
        return x + branch


def masked(x, training):
    return x.masked_fill(torch.rand_like(x) < 0.5, 0.0) * 2 if training else x


def chosen(x, training):
    return torch.where(torch.rand_like(x) < 0.5, 2 * x, torch.zeros_like(x)) if training else x


def in_place(x, training):
    return x.mul_((torch.rand_like(x) < 0.5).float()).mul_(2) if training else x


def additive(x, training):
    return x + 0.7 * torch.randn_like(x) if training else x


def dropped_in_place(x, training):
    return F.dropout(x, 0.5, training, inplace=True)


class Attention(nn.Module):
    """Self-attention over positions, with dropout of its weights."""

    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(12, 2, dropout=0.5, batch_first=True)

    def forward(self, x):
        x = x.mT
        return self.inner(x, x, x, need_weights=False)[0].mT


def scaled_attention(x, training):
    return F.scaled_dot_product_attention(x, x, x, dropout_p=0.5 if training else 0.0)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.GRU(12, 12, 2, dropout=0.5, batch_first=True)

    def forward(self, x):
        return 5 * self.inner(x.mT)[0].mT


NOISES = {  # by name: dimensions, noise, what names it, whether the exact law holds to the next BN
    "Dropout": (2, lambda: nn.Dropout(0.5), "noise (Dropout 0.5)", True),
    "Dropout-linear": (0, lambda: nn.Dropout(0.5), "noise (Dropout 0.5)", True),
    "Dropout-in-place": (2, lambda: nn.Dropout(0.5, inplace=True), "noise (Dropout 0.5)", True),
    "Dropout1d": (1, lambda: nn.Dropout1d(0.5), "noise (Dropout1d 0.5)", False),
    "Dropout2d": (2, lambda: nn.Dropout2d(0.5), "noise (Dropout2d 0.5)", True),
    "Dropout3d": (3, lambda: nn.Dropout3d(0.5), "noise (Dropout3d 0.5)", True),
    "AlphaDropout": (2, lambda: nn.AlphaDropout(0.5), "noise (AlphaDropout 0.5)", False),
    "FeatureAlphaDropout": (
        *(2, lambda: nn.FeatureAlphaDropout(0.5), "noise (FeatureAlphaDropout 0.5)", False),
    ),
    "F.dropout": (2, lambda: Function(lambda x, on: F.dropout(x, 0.5, on)), "noise: F.dropout 0.5", True),
    "F.dropout2d": (2, lambda: Function(lambda x, on: F.dropout2d(x, 0.5, on)), "F.dropout2d 0.5", True),
    "F.alpha_dropout": (
        2,
        lambda: Function(lambda x, on: F.alpha_dropout(x, 0.5, on)),
        "alpha_dropout",
        False,
    ),
    "F.dropout-in-place": (2, lambda: Function(dropped_in_place), "noise: F.dropout 0.5", True),
    "torch.dropout": (2, lambda: Function(lambda x, on: torch.dropout(x, 0.5, on)), "F.dropout 0.5", True),
    "stochastic-depth": (2, DropPath, "noise: random factor", True),
    "masked_fill": (2, lambda: Function(masked), "noise (Function)", False),
    "where": (2, lambda: Function(chosen), "noise (Function)", False),
    "multiplied-in-place": (2, lambda: Function(in_place), "noise (Function)", True),
    "additive": (2, lambda: Function(additive), "noise (Function)", False),
    "RReLU": (2, lambda: Function(lambda x, on: F.rrelu(x - 1, -3, 3, on)), "random slope", False),
    "MultiheadAttention": (1, Attention, "noise.inner: attention dropout", False),
    "scaled-attention": (1, lambda: Function(scaled_attention), "noise: attention dropout", False),
    "GRU": (1, Recurrent, "noise.inner: dropout between its layers", False),
    "uout": (2, lambda: MultiplicativeNoise("uout", 1 / 3), "noise (MultiplicativeNoise)", True),
    "gaussian-per-channel": (
        *(
            2,
            lambda: MultiplicativeNoise("gaussian", 1.0, per_channel=True),
            "noise (MultiplicativeNoise)",
            True,
        ),
    ),
}


def data_for(dimensions, batches=10, batch=64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, 4, *[5] * dimensions, generator=generator) for _ in range(batches)]


@pytest.mark.parametrize("name", NOISES)
def test_each_noise_is_named_where_it_enters_and_measured(name):
    dimensions, noise, label, has_law = NOISES[name]
    torch.manual_seed(0)
    batches = data_for(dimensions, batch=64 if dimensions else 512)
    model = trained(Around(noise(), dimensions), batches)
    table = audit(model, batches).set_index("layer_name")
    assert label in table.own_noise["second"]
    assert not table.own_noise["first"] + table.upstream_noise["first"] + table.own_noise["third"]
    assert table.upstream_noise["third"] == table.own_noise["second"]
    assert np.isfinite(table.local_ratio_exact["second"]) == has_law
    # No noise is upstream of it, so the share followed and the one from switching all noise off are the same.
    row = table.loc["second"]
    width = math.log(row.local_ratio_high / row.local_ratio_low)
    assert abs(math.log(row.local_ratio / row.noise_ratio)) < width < 0.7
    assert row.local_ratio_high < 1
    if has_law:
        assert row.local_ratio_exact == pytest.approx(row.noise_ratio, rel=0.05)


def test_the_harness_s_own_noise_is_named_and_switched_off():
    torch.manual_seed(0)
    model = Around(NoiseSite("before_weight"), 2)
    batches = data_for(2)
    trained(model, batches)

    def forward(network, x):
        model.noise.factor = 2 * torch.bernoulli(torch.full((len(x), 12, 5, 5), 0.5))
        return network(x)

    table = audit(model, batches, forward=forward).set_index("layer_name")
    assert table.own_noise["second"] == "noise (NoiseSite)"
    assert table.upstream_noise["third"] == "noise (NoiseSite)"
    assert table.local_ratio_exact["second"] == pytest.approx(table.noise_ratio["second"], rel=0.05)
    assert table.upstream_ratio["first"] == 1
    assert model.noise.factor is None


def test_noise_that_nobody_can_name_is_measured_all_the_same():
    def hidden(x, training):
        return x * torch.from_numpy(np.random.binomial(1, 0.5, x.shape) * 2).float() if training else x

    batches = data_for(2)
    model = trained(Around(Function(hidden), 2), batches)
    table = audit(model, batches)
    assert not table.own_noise.any()
    assert list(table.alarm.str.contains("noise"))[:2] == [False, True]
    assert "noise that has no name" in diagnosis(table)


def by_python(x, training):
    return 3 * x if training and random.random() < 0.5 else x


def by_numpy(x, training):
    return 3 * x if training and np.random.rand() < 0.5 else x


def by_a_draw_of_torch(x, training):
    return 3 * x if training and torch.rand(()) < 0.5 else x


class OwnGenerator(nn.Module):
    """Draws from a generator that it holds."""

    def __init__(self, generator, draw):
        super().__init__()
        self.generator, self.draw = generator, draw

    def forward(self, x):
        return 3 * x if self.training and self.draw(self.generator) < 0.5 else x


CHOICES = {
    "Python": lambda: Function(by_python),
    "numpy": lambda: Function(by_numpy),
    "torch": lambda: Function(by_a_draw_of_torch),
    "own of Python": lambda: OwnGenerator(random.Random(1), random.Random.random),
    "own of numpy": lambda: OwnGenerator(np.random.default_rng(1), np.random.Generator.random),
    "own of numpy, old": lambda: OwnGenerator(np.random.RandomState(1), np.random.RandomState.rand),
    "own of torch": lambda: OwnGenerator(
        torch.Generator().manual_seed(1), lambda generator: torch.rand((), generator=generator)
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_choices_by_random_numbers_are_noise_whatever_the_first_one_is(name):
    """Half of the audits would take it for no noise, if a choice had to be taken in the first batch."""
    batches = data_for(0, batches=10)
    model = trained(Around(CHOICES[name](), 0), batches)
    for seed in range(6):
        random.seed(seed)
        table = audit(model, batches, seed=seed).set_index("layer_name")
        assert table.attrs["has_noise"]
        assert table.noise_ratio["second"] < 0.9, seed
        assert table.noise_ratio["first"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", CHOICES)
def test_they_are_seen_beside_noise_that_is_followed_but_reaches_no_bn_layer(name):
    batches = data_for(0, batches=10)
    model = trained(nn.Sequential(Around(CHOICES[name](), 0), nn.Dropout(0.5)), batches)
    for seed in range(6):
        random.seed(seed)
        assert audit(model, batches, seed=seed).noise_ratio[1] < 0.9, seed


def test_beside_them_a_layer_that_nothing_reaches_is_not_measured():
    model = Around(Function(by_python), 0)
    model.unused = nn.BatchNorm1d(4)
    table = audit(model, data_for(0))
    assert table.layer_name[3] == "unused"
    assert "unused: not measured, as no batch reaches it" in diagnosis(table)


@pytest.mark.parametrize("name", CHOICES)
def test_the_same_seed_gives_the_same_table_whatever_was_drawn_before(name):
    model = Around(CHOICES[name](), 0)
    first = audit(model, data_for(0))
    random.random(), np.random.rand(), torch.rand(1)
    assert audit(model, data_for(0)).equals(first)


def test_own_generators_give_every_batch_other_noise():
    generator, seen = random.Random(0), []

    def noted(generator):
        seen.append(generator.random())
        return seen[-1]

    audit(Around(OwnGenerator(generator, noted), 0), data_for(0, batches=8))
    assert len(seen) == len(set(seen)) == 8
    assert generator.getstate() == random.Random(0).getstate()


def test_noise_that_eval_mode_has_too_is_no_cause_but_is_told():
    batches = data_for(2)
    model = trained(Around(Function(lambda x, _: F.dropout(x, 0.5)), 2), batches, passes=6)
    table = audit(model, batches)
    assert not table.own_noise.any()
    assert not table.alarm.str.contains("noise").any()
    assert "noise: F.dropout 0.5 is random in eval mode too" in diagnosis(table)


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")  # of torch, in its own code
def test_a_compiled_part_is_followed_like_any_other():
    batches = data_for(0)
    model = Around(torch.compile(nn.Sequential(nn.Linear(12, 12), nn.Dropout(0.5))), 0)
    table = audit(model, batches).set_index("layer_name")
    assert "(Dropout 0.5)" in table.own_noise["second"]
