"""Advice to adjust was tried before it is given, with the user's labels or metric."""

import copy
import itertools

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from analysis.audit import accuracy, adjust, audit, compare, diagnosis
from analysis.audit.tried import try_adjusting
from tests.analysis.audit.audit_models import fitted

generator = torch.Generator().manual_seed(0)
X = torch.randn(640, 8, generator=generator)
Y = (X[:, 0] + X[:, 1] > 1).long()
BATCHES = list(zip(X.split(64), Y.split(64), strict=True))


def classifier() -> nn.Sequential:
    torch.manual_seed(0)
    blocks = [(nn.Linear(i, 32), nn.BatchNorm1d(32), nn.ReLU()) for i in (8, 32)]
    net = nn.Sequential(*itertools.chain(*blocks), nn.Linear(32, 2))
    fitted(net, BATCHES, epochs=5)
    return net


@pytest.fixture(scope="module")
def spoilt() -> nn.Sequential:
    """A sound network whose stored statistics were spoilt afterwards."""
    net = classifier()
    net[1].running_var.mul_(25)
    net[1].running_mean.add_(2)
    return net


@pytest.fixture(scope="module")
def sound() -> nn.Sequential:
    return classifier()


def scores_by_hand(net: nn.Module, batches: list, scored: list) -> tuple[float, float]:
    other = copy.deepcopy(net).eval()
    before = accuracy(other, scored)
    return before, accuracy(adjust(other, batches).eval(), scored)


def test_adjusting_that_helps_is_advised_with_what_it_gains(spoilt):
    before, after = scores_by_hand(spoilt, BATCHES, BATCHES)
    assert after > before + 5
    said = diagnosis(audit(spoilt, BATCHES))
    assert (
        f"it helps: accuracy on the training batches from {before:.1f} to {after:.1f} (+{after - before:.1f})."
        in said
    )


def test_adjusting_that_harms_is_advised_against(sound):
    foreign = [(9 * x + 5, y) for x, y in BATCHES]
    before, after = scores_by_hand(sound, foreign, BATCHES)
    assert after < before - 5
    said = diagnosis(audit(sound, foreign, BATCHES))
    assert (
        "  - Do not adjust: tried and undone, it gives accuracy on the evaluation batches "
        f"from {before:.1f} to {after:.1f}" in said
    )
    assert "  - Now: adjust" not in said


def test_a_metric_of_the_users_is_named_and_is_what_counts(spoilt):
    def minus_loss(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
        return -float(sum(nn.functional.cross_entropy(model(x), y) for x, y in batches))

    assert "it helps: minus_loss on the training batches from -" in diagnosis(
        audit(spoilt, BATCHES, metric=minus_loss)
    )


@pytest.mark.parametrize("batches", [list(X.split(64)), iter(BATCHES)], ids=["no labels", "readable once"])
def test_what_could_not_be_tried_is_said_to_be_untried(spoilt, batches):
    table = audit(spoilt, batches)
    assert table.attrs["tried"] is None
    assert "Whether that helps was not tried" in diagnosis(table)


def test_nothing_is_tried_where_nothing_is_advised(sound):
    assert "tried" not in audit(sound, BATCHES, metric=lambda *_: pytest.fail("called")).attrs


def test_trying_leaves_the_network_bit_for_bit(spoilt):
    before = copy.deepcopy(spoilt.state_dict())
    modes = [module.training for module in spoilt.modules()]
    random = torch.get_rng_state()
    assert audit(spoilt, BATCHES).attrs["tried"].gain > 0
    assert all(torch.equal(a, b) for a, b in zip(before.values(), spoilt.state_dict().values(), strict=True))
    assert modes == [module.training for module in spoilt.modules()]
    assert torch.equal(random, torch.get_rng_state())


def test_after_following_the_advice_the_next_audit_is_clean(spoilt):
    net = adjust(copy.deepcopy(spoilt), BATCHES)
    assert not audit(net, BATCHES)["alarm"].any()


def test_a_difference_of_chance_is_called_that(sound):
    """Labels that nothing predicts: adjusting changes which samples are right, and not how many."""
    noise = torch.randint(2, (640,), generator=torch.Generator().manual_seed(1))
    random = list(zip(X.split(64), noise.split(64), strict=True))
    net = copy.deepcopy(sound)
    net[1].running_var.mul_(25)
    said = diagnosis(audit(net, random))
    assert "no more than chance)" in said
    assert "Do not adjust" not in said
    assert "it helps" not in said


def test_scores_of_both_modes_are_those_of_compare(spoilt):
    trial = try_adjusting(spoilt, BATCHES, modes=("train", "eval"))
    other = copy.deepcopy(spoilt)
    by_hand = [
        compare({"before": other}, BATCHES),
        compare({"after adjust": adjust(other, BATCHES)}, BATCHES),
    ]
    pd.testing.assert_frame_equal(trial.scores, pd.concat(by_hand, ignore_index=True))


def test_a_metric_of_small_numbers_is_written_with_its_digits(spoilt):
    def small(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
        return accuracy(model, batches) / 1e5

    before, after = (score / 1e5 for score in scores_by_hand(spoilt, BATCHES, BATCHES))
    assert f"from {before:.4g} to {after:.4g} ({after - before:+.4g})" in diagnosis(
        audit(spoilt, BATCHES, metric=small)
    )
