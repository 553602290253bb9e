"""A tape against the function that it recorded."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from experiments.kernels.machine import heard_by
from experiments.kernels.tape import Tape
from experiments.layers.linear import StackedLinear
from experiments.layers.norms import BatchNorm, norm_relu
from experiments.layers.scaling import scaled
from experiments.networks import NETWORKS
from experiments.training import gradients
from experiments.training.gradients import Gradients
from experiments.training.stack import ChunkNoise, stack_members
from tests.experiments.networks.small_networks import CPU, member

MEMBERS, BATCH = 5, 24


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def recorded(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tape, Tensor]:
    tape = Tape(MEMBERS)
    with tape.recording():
        return tape, function(x)


def vectors(features: int, seed: int = 0) -> Tensor:
    """Activations [members, batch, features] as they lie in memory."""
    random = torch.Generator().manual_seed(seed)
    return torch.randn(MEMBERS, features, BATCH, generator=random).mT


def test_kernels_and_operations_are_done_again(threads):
    weight, factor = vectors(7, 1)[:, :6].contiguous(), vectors(6, 2)

    def function(x: Tensor) -> Tensor:
        y = scaled(StackedLinear.apply(x, weight), factor)  # type: ignore[arg-type]
        y = y.exp() + y.max(1, keepdim=True).values  # of two results
        return StackedLinear.apply(y, weight[:, :, :6]).add_(1)  # type: ignore[union-attr]

    x = vectors(7)
    tape, y = recorded(function, x)
    assert torch.equal(y, function(x))
    other = vectors(7, 3)
    expected = function(other)
    x.copy_(other)
    for _ in range(2):
        tape.play()
        assert torch.equal(y, expected)


def test_what_is_freed_meanwhile_is_not_written_over():
    """Played, a member's last step comes before the next one's first."""
    weight = torch.eye(8).expand(MEMBERS, 8, 8).contiguous()

    def function(x: Tensor) -> Tensor:
        for _ in range(6):
            x = StackedLinear.apply(x, weight)  # type: ignore[assignment]
        return x

    x = vectors(8)
    tape, y = recorded(function, x)
    x.copy_(vectors(8, 1))
    tape.play()
    assert torch.equal(y, x)


def test_counters_and_running_statistics_move_each_time():
    norm = BatchNorm(4)
    for name, value in {**dict(norm.named_parameters()), **dict(norm.named_buffers())}.items():
        stacked = value.detach().expand(MEMBERS, *value.shape).clone()
        if isinstance(value, nn.Parameter):
            setattr(norm, name, nn.Parameter(stacked))
        else:
            setattr(norm, name, stacked)
    x = vectors(4)
    tape, _ = recorded(lambda x: norm_relu(norm, x), x)
    first = norm.running_mean.clone()  # type: ignore[operator, union-attr]
    tape.play()
    assert norm.num_batches_tracked.tolist() == [2] * MEMBERS  # type: ignore[union-attr]
    torch.testing.assert_close(norm.running_mean, 1.9 * first)


def test_kernels_that_follow_one_another_are_one_call():
    weight = vectors(7, 1)[:, :7].contiguous()
    x = vectors(7)
    tape, _ = recorded(lambda x: scaled(StackedLinear.apply(x, weight), x), x)  # type: ignore[arg-type]
    heard: list[int] = []
    with heard_by(lambda count, work: heard.append(count)):
        tape.play()
    assert heard == [MEMBERS]


@pytest.mark.parametrize("norm", ["batch", "group", "layer", "none"])
@pytest.mark.parametrize("seeds", [(0, 0, 0), (0, 1, 1), (1,)])
@pytest.mark.parametrize("batch", [BATCH, 3])  # 3 are too few for a vector: torch's operations normalise
def test_training_by_a_tape_is_training_without_it(norm, seeds, batch, threads, monkeypatch):
    """To the bit: losses, gradients and statistics of several steps, in all noises and placements."""
    kinds = [
        ("before_bn", "dropout", 0.5),
        ("before_weight", "gaussian", 0.7),
        ("after_last_bn", "uout", 0.3),
    ]
    members = [member(*kind, seed=seed) for kind, seed in zip(kinds, seeds, strict=False)]
    random = torch.Generator().manual_seed(3)
    batches = [
        (torch.randn(batch, 9, generator=random), torch.randint(4, (batch,), generator=random))
        for _ in range(3)
    ]

    def train() -> list[Tensor]:
        torch.manual_seed(0)
        built = [NETWORKS["mlp"]((9,), 4, width=6, depth=2, norm=norm) for _ in range(2)]
        stack = stack_members(members, lambda seed: built[seed])
        shapes = dict.fromkeys(stack.sites(), (6,))
        compute = Gradients(stack, ChunkNoise(stack, shapes, members, CPU), "float32")
        found = []
        for step, (x, y) in enumerate(batches):
            losses, grads = compute(step, x.expand(len(members), -1, -1), y.expand(len(members), -1))
            found += [losses.clone(), *(grad.clone() for grad in grads)]
        return [*found, *(buffer.clone() for buffer in stack.buffers())]

    by_tape = train()
    monkeypatch.setattr(gradients, "has_kernels", lambda x: False)
    without = train()
    assert len(by_tape) == len(without)
    assert all(torch.equal(a, b) for a, b in zip(by_tape, without, strict=True))
