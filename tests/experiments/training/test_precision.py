"""Training with convolutions in bfloat16: nearly the gradients of float32, and all that is kept in float32."""

from dataclasses import replace

import pytest
import torch

from experiments.checks import ConfigError
from experiments.settings.config import make_job
from experiments.training.gradients import member_losses
from experiments.training.precision import products_in
from experiments.training.stack import ChunkNoise, site_shapes, stack_members
from experiments.training.train import train_stack
from tests.experiments.data.raw_images import DATA
from tests.experiments.networks.small_networks import CPU, SMALL, member
from tests.experiments.small import RECIPE, built, small_job

MEMBERS = [member("before_bn", "dropout", 0.3), member("none", seed=1)]


def prepared(key: str, norm: str = "batch"):
    def build(seed: int):
        return built(SMALL[key] | {"norm": norm}, (3, 8, 10), 10, seed)

    stack = stack_members(MEMBERS, build)
    return stack, ChunkNoise(stack, site_shapes(build(0), DATA.train_inputs[:2]), MEMBERS, CPU)


@pytest.mark.parametrize("key", SMALL)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_gradients_are_nearly_those_of_float32_and_of_its_type(key, norm):
    stack, noise = prepared(key, norm)
    inputs, labels = DATA.train_inputs[:32].expand(2, -1, -1, -1, -1), DATA.train_labels[:32].expand(2, -1)
    types = set()
    for module in stack.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda module, args, output: types.add(output.dtype))
    gradients = []
    for precision, expected in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        types.clear()
        with noise.on(0, 32), products_in(precision, CPU):
            logits = stack(inputs)
        assert types == {expected}
        assert logits.dtype == torch.float32
        loss = member_losses(logits, labels).sum()
        gradients.append(torch.autograd.grad(loss, list(stack.parameters())))
    exact, rounded = (torch.cat([grad.flatten() for grad in grads]) for grads in gradients)
    assert rounded.dtype == torch.float32
    # Through a dozen layers of rounding to 8 bits, and ReLUs that fall to the other side.
    assert torch.cosine_similarity(exact, rounded, dim=0) > 0.9
    assert not exact.equal(rounded)

    # The second member is one that torch by itself trains with its own autocast.
    plain = built(SMALL[key] | {"norm": norm}, (3, 8, 10), 10, seed=1).train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = plain(DATA.train_inputs[:32])
    plain_gradients = torch.autograd.grad(
        torch.nn.functional.cross_entropy(logits, labels[1]), list(plain.parameters())
    )
    stacked = torch.cat([grad[1].flatten() for grad in gradients[1]])
    alone = torch.cat([grad.flatten() for grad in plain_gradients])
    assert torch.cosine_similarity(stacked, alone, dim=0) > 0.95


def test_training_in_bfloat16_learns_as_in_float32_and_keeps_its_statistics_in_float32():
    losses, variances = [], []
    for precision in ("float32", "bfloat16"):
        stack, noise = prepared("preresnet-basic")
        recipe = replace(RECIPE, epochs=8, batch_size=20, precision=precision)
        outcome = train_stack(stack, MEMBERS, noise, DATA, recipe)
        losses.append(outcome.epochs[-1]["train_loss"])
        assert {value.dtype for value in stack.state_dict().values()} == {torch.float32, torch.int64}
        variances.append(
            torch.cat([v.flatten() for k, v in stack.state_dict().items() if "running_var" in k])
        )
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
    assert torch.cosine_similarity(variances[0], variances[1], dim=0) > 0.95


def test_a_network_without_convolutions_is_trained_in_float32():
    config = small_job({"seed": [0], "none": True}).config
    config["recipe"] = config["recipe"] | {"precision": "bfloat16"}
    with pytest.raises(
        ConfigError, match=r"^recipe\.precision=bfloat16: allowed is float32, because mlp has no"
    ):
        make_job(config)
