"""What BN layers show against what was prescribed, and each intervention against plain PyTorch, a pass a layer."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from experiments.layers.norms import stores_statistics
from experiments.measuring.adjust import adjust_stack
from experiments.measuring.evaluate import judge
from experiments.measuring.interventions import (
    RANDOM_DRAWS,
    LayerShift,
    coarse,
    coarse_shift,
    freeze,
    intervene,
    repair,
)
from experiments.measuring.moments import Moments
from experiments.measuring.shown import parts, prescribe, rms, samples_at_once, shown, storing_norms
from experiments.networks.network import Network
from experiments.training.stack import stack_members
from tests.experiments.networks.small_networks import ALL, images, member, small_network

INPUTS, TEST = images(40), images(30, seed=1)
TEST_LABELS = torch.arange(30) % 10
PER_MEMBER = [member(seed=0), member(seed=1)]
EXACT = {"rtol": 1e-9, "atol": 1e-9}


def stacked(key: str) -> Network:
    """Two members of a network in double precision, whose stored statistics fit nothing: a shift everywhere."""
    return stack_members(PER_MEMBER, lambda seed: small_network(key, seed))


def logits(stack: Network, inputs: Tensor = TEST) -> Tensor:
    with torch.no_grad():
        return stack.eval()(inputs.expand(2, *inputs.shape))


def right(name: str, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ones_like(mean), torch.zeros_like(mean)


@pytest.mark.parametrize("key", ALL)
def test_every_layer_shows_what_is_prescribed_in_any_network(key):
    stack = stacked(key)
    random = torch.Generator().manual_seed(0)
    wanted = {
        name: tuple(
            torch.empty(2, norm.num_features, dtype=torch.double).uniform_(low, high, generator=random)
            for low, high in ((0.3, 2.0), (-1.0, 1.0))
        )
        for name, norm in storing_norms(stack).items()
    }
    cut, of_inputs = prescribe(stack, INPUTS, lambda name, mean, variance: wanted[name])
    assert cut.tolist() == [0, 0]
    torch.testing.assert_close(of_inputs, logits(stack, INPUTS), **EXACT)
    for name, found in shown(stack, INPUTS).items():
        torch.testing.assert_close(found, wanted[name], **EXACT)


@pytest.mark.parametrize("key", ALL)
def test_what_a_network_shows_reproduces_it(key):
    stack = stacked(key)
    before, real = logits(stack), shown(stack, INPUTS)
    prescribe(stack, INPUTS, right)
    assert (logits(stack) - before).abs().max() > 0.01  # something was put right
    prescribe(stack, INPUTS, lambda name, mean, variance: real[name])
    torch.testing.assert_close(logits(stack), before, **EXACT)


@pytest.mark.parametrize("key", ALL)
def test_both_right_is_what_bn_adjustment_does(key):
    stack = stacked(key)
    many = images(400)
    prescribe(stack, many, right)
    in_eval_mode = logits(stack)
    adjust_stack(stack, 2, many)
    # While it is adjusted, a network normalises by the biased variance of the batch; what is shown is unbiased.
    torch.testing.assert_close(logits(stack), in_eval_mode, rtol=0.02, atol=0.02)


def test_of_a_constant_channel_the_variance_is_cut_at_0_and_counted():
    stack = stacked("mlp")
    norm = next(iter(storing_norms(stack).values()))
    layer = stack.get_submodule(stack.norm_inputs()[0].layer)
    with torch.no_grad():
        layer.weight[0, :3] = 0
    ratios = dict.fromkeys(storing_norms(stack), 2.0)
    cut, _ = prescribe(stack, INPUTS, lambda name, mean, variance: (ratios[name] + 0 * mean, 0 * mean))
    assert cut.tolist() == [3, 0]
    assert norm.running_var[0, :3].tolist() == [0, 0, 0]


# --- against plain PyTorch


def by_hand(
    model: nn.Module, prescription: Callable[[str, Tensor, Tensor], tuple[Tensor, Tensor]]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Set one network's statistics, layer by layer, with a pass for each; return every m and v."""
    names = [
        norm_input.norm
        for norm_input in model.norm_inputs()
        if stores_statistics(model.get_submodule(norm_input.norm))
    ]
    moments = {}
    for name in names:
        norm, seen = model.get_submodule(name), []
        hook = norm.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
        with torch.no_grad():
            model.eval()(INPUTS)
        hook.remove()
        rows = seen[0].movedim(1, 0).flatten(1)
        mean, variance = rows.mean(1), rows.var(1)
        moments[name] = mean, variance
        ratio, shift = prescription(name, mean, variance)
        norm.running_var = ((variance + norm.eps) / ratio - norm.eps).clamp(min=0)
        norm.running_mean = mean - shift * (norm.running_var + norm.eps).sqrt()
    return moments


def percent_wrong(model: nn.Module) -> float:
    with torch.no_grad():
        return 100 * (model.eval()(TEST).argmax(1) != TEST_LABELS).double().mean().item()


@pytest.mark.parametrize("key", ["mlp", "preresnet-bottleneck", "densenet"])
def test_the_cells_and_the_coarse_shift_are_those_of_plain_pytorch(key):
    stack = stacked(key)
    real = shown(stack, INPUTS)
    shifts = coarse_shift(stack, real)
    found = repair(stack, INPUTS, {"test": (TEST, TEST_LABELS)})
    rough = coarse(stack, INPUTS, shifts, [0, 1], (TEST, TEST_LABELS))
    for index in (0, 1):
        model = small_network(key, index)
        r = {name: ratio[index] for name, (ratio, _) in real.items()}
        d = {name: shift[index] for name, (_, shift) in real.items()}
        for name, norm in model.named_modules():
            if name in shifts:
                stored = norm.running_var + norm.eps
                assert shifts[name].ratio[index].item() == pytest.approx(
                    ((r[name] * stored).sum() / stored.sum()).item(), rel=1e-9
                )
                assert shifts[name].size[index].item() == pytest.approx(
                    d[name].square().mean().sqrt().item(), rel=1e-9
                )
        expected = {"frozen": percent_wrong(model)}
        for cell, prescription in (
            ("means_right", lambda name, mean, variance, r=r: (r[name], 0 * mean)),
            ("variances_right", lambda name, mean, variance, d=d: (0 * mean + 1, d[name])),
            ("both_right", lambda name, mean, variance: (0 * mean + 1, 0 * mean)),
        ):
            clean = by_hand(model, prescription)
            expected[cell] = percent_wrong(model)
        for cell, error in expected.items():
            assert found.members[f"test_error_{cell}"][index].item() == pytest.approx(error)
        ratio = {name: shift.ratio[index] for name, shift in shifts.items()}
        size = {name: shift.size[index] for name, shift in shifts.items()}
        moved = by_hand(model, lambda name, mean, variance, ratio=ratio: (ratio[name] + 0 * mean, 0 * mean))
        assert rough.members["variances"][index].item() == pytest.approx(percent_wrong(model))
        along = {}
        for name, (mean, _) in moved.items():
            induced = (mean - clean[name][0]) / (clean[name][1] + 1e-5).sqrt()
            strength = induced.square().mean().sqrt()
            assert rough.layers[name]["mean_shift_induced"][index].item() == pytest.approx(
                strength.item(), rel=1e-6, abs=1e-9
            )
            along[name] = induced / strength if strength > 0.01 else None
        if all(direction is not None for direction in along.values()):
            show = lambda name, mean, variance, of=(ratio, size, along): (  # noqa: E731
                of[0][name] + 0 * mean,
                of[1][name] * of[2][name],
            )
            by_hand(model, show)
            assert rough.members["shift"][index].item() == pytest.approx(percent_wrong(model))


@pytest.mark.parametrize("key", ["mlp", "wide_resnet"])
def test_coarse_prescriptions_show_one_ratio_and_the_size_of_the_mean_shift(key, monkeypatch):
    stack = stacked(key)
    prescribe(stack, INPUTS, right)
    shifts = {
        name: LayerShift(torch.tensor([0.5, 0.7]), torch.tensor([0.2, 0.1])) for name in storing_norms(stack)
    }
    seen = []

    def look(looked, members, inputs, labels):
        seen.append(shown(looked, INPUTS))
        return judge(looked, members, inputs, labels)

    monkeypatch.setattr("experiments.measuring.interventions.judge", look)
    coarse(stack, INPUTS, shifts, [0, 1], (TEST, TEST_LABELS))
    assert len(seen) == 3 + RANDOM_DRAWS
    for number, ratios, sizes in [(0, [0.5, 0.7], [0, 0]), (1, [0.5, 0.7], [0.2, 0.1])] + [
        (later, [1, 1], [0.2, 0.1]) for later in range(2, 3 + RANDOM_DRAWS)
    ]:
        for ratio, shift in seen[number].values():
            torch.testing.assert_close(
                ratio, torch.tensor(ratios).double()[:, None].expand_as(ratio), **EXACT
            )
            torch.testing.assert_close(rms(shift), torch.tensor(sizes).double(), **EXACT)
    name = list(shifts)[-1]
    torch.testing.assert_close(seen[1][name][1], seen[2][name][1], **EXACT)  # shift and means: one direction
    assert not torch.allclose(seen[3][name][1], seen[4][name][1], atol=0.01)  # random ones are drawn anew


def test_what_the_inputs_themselves_are_judged_by_is_what_a_pass_over_them_finds():
    labels = TEST_LABELS[torch.arange(40) % 30]
    judged = {"there": (INPUTS, labels), "anew": (INPUTS.clone(), labels)}
    found = repair(stacked("mlp"), INPUTS, judged).members
    for cell in ("frozen", "means_right", "variances_right", "both_right"):
        for what in ("error", "loss"):
            there, anew = (found[f"{where}_{what}_{cell}"] for where in judged)
            torch.testing.assert_close(there, anew, **EXACT)
    assert len({tuple(found[f"there_loss_{cell}"].tolist()) for cell in ("frozen", "means_right")}) == 2


# --- whole stacks


def moments_of(stack: Network) -> dict[str, Moments]:
    """Moments of other inputs, as if noise had moved them."""
    found = {}
    for name, norm in storing_norms(stack).items():
        found[name] = Moments()
        random = torch.Generator().manual_seed(len(found))
        found[name].update(torch.randn(2, 50, norm.num_features, generator=random, dtype=torch.double) + 0.3)
    return found


def test_parts_of_a_stack_find_what_the_whole_finds(monkeypatch):
    shapes = {"site": (3, 8, 8)}
    judged = {"train": (INPUTS, TEST_LABELS[torch.arange(40) % 30]), "test": (TEST, TEST_LABELS)}
    whole, cut = stacked("convnet"), stacked("convnet")
    moments = moments_of(whole)
    expected = intervene(whole, [0, 1], moments, INPUTS, shapes, judged)
    monkeypatch.setattr("experiments.measuring.shown.WIDEST_BYTES", 4 * 3 * 64 * 40)
    assert [rows for rows, _ in parts(cut, 2, 40, shapes)] == [slice(0, 1), slice(1, 2)]
    found = intervene(cut, [0, 1], moments, INPUTS, shapes, judged)
    assert set(found.members) == set(expected.members)
    for key, values in expected.members.items():
        torch.testing.assert_close(found.members[key], values, **EXACT)
    for name, columns in expected.layers.items():
        for key, values in columns.items():
            torch.testing.assert_close(found.layers[name][key], values, **EXACT)
    # Statistics end right, in the stack itself.
    for stack in (whole, cut):
        for ratio, shift in shown(stack, INPUTS).values():
            torch.testing.assert_close(ratio, torch.ones_like(ratio), **EXACT)
            torch.testing.assert_close(shift, torch.zeros_like(shift), **EXACT)


def test_the_frozen_cell_has_the_statistics_of_train_mode():
    stack = stacked("mlp")
    moments = moments_of(stack)
    freeze(stack, moments, slice(0, 2))
    expected = judge(stack, 2, TEST, TEST_LABELS)
    found = intervene(stacked("mlp"), [0, 1], moments, INPUTS, {"a": (12,)}, {"test": (TEST, TEST_LABELS)})
    torch.testing.assert_close(found.members["test_error_frozen"], expected[0], **EXACT)
    torch.testing.assert_close(found.members["test_loss_frozen"], expected[1], **EXACT)


def test_all_samples_count_where_they_fit():
    inputs = torch.arange(1000)
    assert samples_at_once(inputs, {"a": (64,), "b": (256,)}).equal(inputs)
    few = samples_at_once(inputs, {"a": (160, 32, 32)})  # a wide residual network's, of 1,024 positions each
    assert len(few) == 390
    assert few.max() > 990
