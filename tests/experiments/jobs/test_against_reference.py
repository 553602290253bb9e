"""The harness against plain PyTorch: same seed, same batches, same draws, same numbers.

Mostly in double precision: in single, an activation within rounding of zero now and then falls on the other
side of the ReLU, and training carries the difference on.
"""

from dataclasses import replace

import pytest
import torch

from experiments.measuring.adjust import adjust_stack
from experiments.measuring.evaluate import evaluate
from experiments.measuring.layer_columns import layer_columns, moving_variances
from experiments.measuring.measure import measure_train_mode
from experiments.members import Member
from experiments.seeds import generator
from experiments.training.noise import uniform_draws
from experiments.training.schedule import learning_rate_factor
from experiments.training.stack import ChunkNoise, site_shapes, stack_members, unstack_member
from experiments.training.train import epoch_batches, train_stack
from tests import reference
from tests.experiments.small import (
    CPU,
    EVERYTHING,
    RECIPE,
    double_network,
    small_data,
    small_job,
    trained_stack,
)

SINGLE = small_data()
DATA = small_data(dtype=torch.double)
JOB = small_job(EVERYTHING, draws=2)
MEMBERS = JOB.members


def oracle_of(member: Member) -> reference.MLP:
    """The oracle's network with the harness's initial weights and uniform draws of a member."""

    def uniform(step: object, site: str, shape: tuple[int, ...]) -> torch.Tensor:
        key = (member.seed, "noise", step, site)
        return uniform_draws([key], shape[0], shape[1:], CPU)[0]

    model = reference.MLP(20, 10, 12, 3, member.placement, member.noise, member.strength, uniform).double()
    model.load_state_dict(double_network(member.seed).state_dict())
    return model


def batches_of(member: Member, epochs) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [
        (DATA.train_inputs[index], DATA.train_labels[index])
        for epoch in epochs
        for index in epoch_batches(member.seed, epoch, 200, RECIPE.batch_size, CPU)
    ]


@pytest.fixture(scope="module")
def trained():
    """All members trained in one stack, and each again by the oracle."""
    stack, noise, outcome = trained_stack(MEMBERS, DATA)
    assert outcome.steps == [24] * len(MEMBERS)
    oracles = [oracle_of(member) for member in MEMBERS]
    for member, oracle in zip(MEMBERS, oracles, strict=True):
        reference.train(oracle, batches_of(member, range(2)), RECIPE.lr)
    return stack, noise, oracles


def test_training_gives_the_same_weights_and_statistics(trained):
    stack, _, oracles = trained
    for index, oracle in enumerate(oracles):
        state = unstack_member(stack, index, double_network(0)).state_dict()
        for name, value in oracle.state_dict().items():
            torch.testing.assert_close(
                state[name], value, rtol=1e-6, atol=1e-6, msg=f"{MEMBERS[index]} {name}"
            )


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: f"{m.placement}-{m.noise}-{m.strength}-{m.seed}")
def test_single_precision_agrees_over_several_steps(member):
    few = replace(SINGLE, train_inputs=SINGLE.train_inputs[:80], train_labels=SINGLE.train_labels[:80])
    stack = stack_members([member], lambda seed: double_network(seed).float())
    noise = ChunkNoise(stack, site_shapes(double_network(0), DATA.train_inputs[:2]), [member], CPU)
    train_stack(stack, [member], noise, few, replace(RECIPE, epochs=1))
    oracle = oracle_of(member).float()
    order = epoch_batches(member.seed, 0, 80, RECIPE.batch_size, CPU)
    reference.train(oracle, [(few.train_inputs[i], few.train_labels[i]) for i in order], RECIPE.lr)
    for name, value in oracle.state_dict().items():
        torch.testing.assert_close(stack.state_dict()[name][0], value, rtol=1e-5, atol=1e-5)


def test_members_of_other_noise_really_differ(trained):
    stack, _, _ = trained
    weights = stack.classifier.weight.detach()
    same_seed = [index for index, member in enumerate(MEMBERS) if member.seed == 0]
    for first in same_seed:
        for second in same_seed:
            if first < second:
                assert (weights[first] - weights[second]).abs().max() > 1e-4


def test_measurement_and_adjustment_agree(trained):
    stack, noise, oracles = trained
    passed = measure_train_mode(stack, MEMBERS, noise, DATA, RECIPE, draws=2)
    moving = moving_variances(stack)
    count = len(MEMBERS)
    train = evaluate(stack, count, DATA.train_inputs, DATA.train_labels)
    test = evaluate(stack, count, DATA.test_inputs, DATA.test_labels)
    layers = layer_columns(stack, noise, passed, train, moving)
    adjust_stack(stack, count, DATA.train_inputs)
    adjusted = evaluate(stack, count, DATA.test_inputs, DATA.test_labels)
    for index, (member, oracle) in enumerate(zip(MEMBERS, oracles, strict=True)):
        batches = [
            (f"measure {draw} {step}", x, y)
            for draw in range(2)
            for step, (x, y) in enumerate(batches_of(member, [RECIPE.epochs + draw]))
        ]
        expected = reference.measure(
            oracle, batches, (DATA.train_inputs, DATA.train_labels), (DATA.test_inputs, DATA.test_labels)
        )
        for layer, columns in enumerate(layers):
            for key in ("train_var", "test_var", "moving_var"):
                assert columns[key][index].item() == pytest.approx(getattr(expected, key)[layer], rel=1e-6)
            has_own = member.placement == "before_bn" or (member.placement == "before_weight" and layer > 0)
            local = columns["local_ratio"][index].item() if "local_ratio" in columns else float("nan")
            if has_own:
                assert local == pytest.approx(expected.local_ratio[layer], rel=1e-6)
            else:
                assert local != local, "no noise of its own: empty"
        assert passed.error[index].item() == pytest.approx(expected.train_error_train_mode, abs=1e-9)
        assert train.error[index].item() == pytest.approx(expected.train_error_eval_mode, abs=1e-9)
        assert test.error[index].item() == pytest.approx(expected.test_error, abs=1e-9)
        assert test.loss[index].item() == pytest.approx(expected.test_loss, rel=1e-6)

        reference.adjust(oracle, DATA.train_inputs)
        error, loss = reference.error_and_loss(oracle, DATA.test_inputs, DATA.test_labels)
        assert adjusted.error[index].item() == pytest.approx(error, abs=1e-9)
        assert adjusted.loss[index].item() == pytest.approx(loss, rel=1e-6)
        for layer, block in enumerate(oracle.blocks):
            ours = stack.blocks[layer].norm
            torch.testing.assert_close(
                ours.running_mean[index], block.norm.running_mean, rtol=1e-6, atol=1e-6
            )
            torch.testing.assert_close(ours.running_var[index], block.norm.running_var, rtol=1e-6, atol=1e-6)


def test_steps_are_those_of_torch():
    recipe = replace(RECIPE, schedule="step", drops=[2, 5], drop_factor=0.2, epochs=7)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=0.1)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[2, 5], gamma=0.2)
    for epoch in range(7):
        for step in range(3):
            ours = 0.1 * learning_rate_factor(recipe, 3 * epoch + step, 21)
            assert ours == pytest.approx(schedule.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("total", [10, 880])
def test_one_cycle_is_that_of_torch(total):
    recipe = replace(RECIPE, schedule="one_cycle")
    for step in range(0, total, max(1, total // 9)):
        ours = 0.1 * learning_rate_factor(recipe, step, total)
        assert ours == pytest.approx(reference.one_cycle_lr(step, total, 0.1), rel=1e-9)


def test_seeds_are_streams_of_their_own():
    draws = {key: torch.rand(5, generator=generator(*key)).tolist() for key in [(0, "a"), (0, "b"), (1, "a")]}
    assert draws[(0, "a")] == torch.rand(5, generator=generator(0, "a")).tolist()
    assert len({tuple(value) for value in draws.values()}) == 3
