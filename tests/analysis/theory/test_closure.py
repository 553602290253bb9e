"""The closure against Monte Carlo, against the exact law, and against the closed form of a rectified Gaussian."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from analysis import theory
from analysis.theory.closure import (
    Block,
    Noise,
    Prediction,
    State,
    factor_law,
    predict_mlp,
    through_relu,
)
from analysis.theory.noises import family
from tests.analysis.theory.noisy_layers import deterministic, draw_noise, seeds, strengths

SAMPLES, CLASSES, EPS = 100_000, 3, 1e-5
PLACEMENTS = ("before_bn", "before_weight")


def gaussian_classes(samples: int, features: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs that are Gaussian within a class, as the closure supposes, and correlated; their labels."""
    labels = torch.randint(CLASSES, (samples,), generator=generator)
    means = torch.randn(CLASSES, features, generator=generator)
    mixing = torch.randn(CLASSES, features, features, generator=generator) / features**0.5
    noise = torch.randn(samples, features, generator=generator)
    inputs = means[labels]
    for label in range(CLASSES):
        inputs[labels == label] += noise[labels == label] @ mixing[label].T
    return inputs, labels


def random_blocks(sizes: list[int], generator: torch.Generator, members: int = 1) -> list[Block]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(members, *shape, generator=generator)

    return [
        Block(normal(units, inputs) / inputs**0.5, 1 + 0.3 * normal(units), 0.3 * normal(units))
        for inputs, units in pairwise(sizes)
    ]


def simulated(
    inputs: Tensor, blocks: list[Block], noise: tuple[str, float], placement: str, generator: torch.Generator
) -> list[tuple[float, float, float]]:
    """Ratio, its standard error and the mean shift of each BN layer of one network, by drawing the noise."""
    train = test = inputs
    found = []
    for index, (weight, scale, shift) in enumerate(blocks):
        if placement == "before_weight" and index > 0:
            train = train * draw_noise(*noise, train.shape, generator)
        train, test = train @ weight[0].T, test @ weight[0].T
        if placement == "before_bn":
            train = train * draw_noise(*noise, train.shape, generator)
        mean, variance = train.mean(0), train.var(0, correction=0)
        std = (variance + EPS).sqrt()
        squares = ((train - mean).square().sum(1) / variance.sum()).double()  # of mean 1
        error = squares.std().item() / math.sqrt(len(squares))
        moved = ((test.mean(0) - mean) / std).square().mean().sqrt().item()
        found.append(((test.var(0, correction=0).sum() / variance.sum()).item(), error, moved))
        train, test = (F.relu((x - mean) / std * scale[0] + shift[0]) for x in (train, test))
    return found


# --- against Monte Carlo: the second BN layer lies behind one ReLU, whose inputs are Gaussian within each class


@deterministic
@given(strengths, st.sampled_from(PLACEMENTS), st.integers(1, 6), seeds)
def test_the_layer_behind_one_relu_is_that_of_monte_carlo(noise, placement, units, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs, labels = gaussian_classes(SAMPLES, 4, generator)
    blocks = random_blocks([4, units, 5], generator)
    found = simulated(inputs, blocks, noise, placement, generator)
    predicted = predict_mlp(inputs, labels, blocks, [Noise(family(noise[0]), noise[1], placement)], EPS)
    for prediction, (ratio, error, moved) in zip(predicted, found, strict=True):
        assert prediction.shift_ratio.item() == pytest.approx(ratio, rel=max(0.01, 5 * error))
        assert prediction.mean_shift.item() == pytest.approx(moved, abs=0.01)


def test_the_second_moments_of_rectified_gaussians_are_the_closed_form():
    """E[max(0, x) max(0, y)] = (sqrt(1 - r^2) + r (pi - acos r)) / 2 pi; Cho & Saul 2009, kernel of order 1."""
    correlation = torch.linspace(-0.9, 0.9, 19).tolist()
    covariance = torch.tensor([[[1.0, r], [r, 1.0]] for r in correlation])[None]  # each r a class
    zeros, ones = torch.zeros(1, len(correlation), 2).double(), torch.ones(1, len(correlation), 2).double()
    still = torch.zeros(1, 2)
    state = through_relu(
        State(zeros, ones, covariance), factor_law([Noise()], zeros), torch.ones(1, 2), still, still
    )
    for r, found in zip(correlation, state.covariance[0], strict=True):
        square = (math.sqrt(1 - r * r) + r * (math.pi - math.acos(r))) / (2 * math.pi)
        assert found[0, 1].item() == pytest.approx(square - 1 / (2 * math.pi), abs=2e-4)
        assert found[0, 0].item() == pytest.approx(0.5 - 1 / (2 * math.pi), abs=1e-6)


# --- where it is exact


@pytest.mark.parametrize("noise", [("dropout", 0.5), ("uout", 1.0), ("gaussian", 1.5)])
def test_the_first_layer_is_the_exact_law(noise):
    generator = torch.Generator().manual_seed(0)
    inputs, labels = gaussian_classes(500, 6, generator)
    inputs = F.relu(inputs)  # no class is Gaussian
    blocks = random_blocks([6, 8, 4], generator)
    z = (inputs @ blocks[0].weight[0].T).double()
    train = theory.exact_train_variance(
        z.var(0, correction=0), theory.noise_variance(*noise), z.square().mean(0)
    )
    for placement, ratio in (
        ("before_bn", z.var(0, correction=0).sum() / train.sum()),
        ("before_weight", torch.tensor(1.0)),
    ):
        first = predict_mlp(inputs, labels, blocks, [Noise(family(noise[0]), noise[1], placement)])[0]
        assert first.shift_ratio.item() == pytest.approx(ratio.item(), rel=1e-5)
        assert first.mean_shift.item() == 0


@pytest.mark.parametrize("noise", [Noise(), Noise(family("dropout"), 0.5, "after_last_bn")])
def test_without_noise_before_bn_nothing_shifts(noise):
    generator = torch.Generator().manual_seed(0)
    inputs, labels = gaussian_classes(500, 6, generator)
    for shift_ratio, mean_shift in predict_mlp(
        inputs, labels, random_blocks([6, 8, 8, 8], generator), [noise]
    ):
        assert shift_ratio.item() == 1
        assert mean_shift.item() == 0


# --- stacks


def test_a_stack_has_the_numbers_of_its_members_one_by_one(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    inputs, labels = gaussian_classes(700, 6, generator)
    noises = [Noise()] + [
        Noise(family(name), strength, placement)
        for name, strength in (("dropout", 0.5), ("uout", 0.8), ("gaussian", 1.2))
        for placement in PLACEMENTS
    ]
    blocks = random_blocks([6, 12, 12, 12], generator, members=len(noises))

    def predicted(rows: slice) -> list[Prediction]:
        some = [Block(*(parameter[rows] for parameter in block)) for block in blocks]
        return predict_mlp(inputs, labels, some, noises[rows])

    stacked = predicted(slice(None))
    one_by_one = [predicted(slice(member, member + 1)) for member in range(len(noises))]
    monkeypatch.setattr("analysis.theory.closure.ENTRIES_AT_ONCE", 3 * CLASSES * 12**2)
    in_parts = predicted(slice(None))
    for layer, whole in enumerate(stacked):
        for values, part, *single in zip(
            whole, in_parts[layer], *(of_member[layer] for of_member in one_by_one), strict=True
        ):
            assert torch.equal(values, torch.cat(single))
            assert torch.equal(values, part)


def test_a_unit_that_is_constant_or_never_on_gives_finite_numbers():
    generator = torch.Generator().manual_seed(0)
    inputs, labels = gaussian_classes(300, 6, generator)
    blocks = random_blocks([6, 8, 8, 8], generator)
    blocks[0].weight[0, 0] = 0
    blocks[1].shift[0, :4] = -50.0
    blocks[1].scale[0, 4] = 0
    for name, strength in (("dropout", 0.5), ("gaussian", 1.0)):
        for placement in PLACEMENTS:
            for prediction in predict_mlp(inputs, labels, blocks, [Noise(family(name), strength, placement)]):
                assert all(values.isfinite().all() for values in prediction)
