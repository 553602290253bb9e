"""BatchNorm by itself: what it computes, and what its arguments do."""

import itertools

import torch
from torch import Tensor, nn

from experiments.modes.finding import Finding, judge
from experiments.modes.networks import batch_norm, stored_statistics

CHANNELS = (
    0,
    2,
    3,
)  # BN's statistics are taken over all dimensions of [batch, channel, height, width] but channel


def features(samples: int = 64) -> Tensor:
    """Feature maps [samples, 256, 4, 4], each channel with a mean and standard deviation of its own."""
    mean, std = 2 * torch.randn(256, 1, 1), 0.5 + torch.rand(256, 1, 1)
    return mean + std * torch.randn(samples, 256, 4, 4)


def normalised(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """What BN should give, written out: (x - mean) / sqrt(variance + eps), channel by channel."""
    return (x - mean.view(-1, 1, 1)) / (variance.view(-1, 1, 1) + 1e-5).sqrt()


def largest(difference: Tensor) -> float:
    """Largest absolute value."""
    return difference.abs().max().item()


def uses_batch_statistics_in_train_mode_only() -> Finding:
    """In train mode BN normalises by the mean and variance of each batch, in eval mode by the stored ones."""
    bn = batch_norm()
    for _ in range(20):
        bn.train()(features())
    x = features()
    stored = stored_statistics(bn)
    of_batch = [x.mean(CHANNELS), x.var(CHANNELS, unbiased=False)]
    in_eval_mode, in_train_mode = bn.eval()(x), bn.train()(x)
    by_batch = largest(in_train_mode - normalised(x, *of_batch))
    by_stored = largest(in_eval_mode - normalised(x, *stored))
    apart = largest(in_train_mode - in_eval_mode)
    return judge(
        {
            "train_mode_from_formula_with_batch_statistics": by_batch,
            "eval_mode_from_formula_with_stored_statistics": by_stored,
            "train_mode_from_eval_mode": apart,
        },
        holds=by_batch < 1e-4 and by_stored < 1e-4 < apart,
        confirmed="Both outputs equal the formula, train mode with the batch's biased variance, to within "
        f"{max(by_batch, by_stored):.1g}; from each other they differ by up to {apart:.2f}.",
        refuted=f"From the formula train mode is off by up to {by_batch:.2g}, eval mode by up to "
        f"{by_stored:.2g}.",
    )


def eval_switches_bn_off() -> Finding:
    """eval() switches BN off."""
    bn = batch_norm()
    x = 3 + 2 * torch.randn(64, 256, 4, 4)
    for _ in range(100):
        bn.train()(3 + 2 * torch.randn(64, 256, 4, 4))
    y = bn.eval()(x)
    change = largest(y - x)
    mean, std = y.mean().item(), y.std().item()
    return judge(
        {
            "input_mean": 3.0,
            "input_std": 2.0,
            "output_mean": mean,
            "output_std": std,
            "largest_change": change,
        },
        holds=change < 1e-6,
        confirmed=f"In eval mode the output is the input, to within {change:.2g}.",
        refuted=f"It still normalises, by what it stored: inputs of mean 3 and standard deviation 2 leave "
        f"with {mean:.3f} and {std:.3f}. Only the updating of the stored statistics is switched off.",
    )


def statistics_change_in_forward() -> Finding:
    """BN's stored statistics change in the forward pass, not in optimizer.step(): forward passes alone, with no
    step, change them.
    """
    bn = batch_norm().train()
    optimizer = torch.optim.SGD(bn.parameters(), lr=0.1)
    stored = [stored_statistics(bn)]
    loss = bn(features()).square().sum()
    stored.append(stored_statistics(bn))
    loss.backward()
    stored.append(stored_statistics(bn))
    optimizer.step()
    stored.append(stored_statistics(bn))
    with torch.no_grad():
        bn(features())
    stored.append(stored_statistics(bn))
    forward, backward, step, alone = (
        largest(after - before) for (before, _), (after, _) in itertools.pairwise(stored)
    )
    return judge(
        {
            "stored_mean_moved_by_forward": forward,
            "stored_mean_moved_by_backward": backward,
            "stored_mean_moved_by_step": step,
            "stored_mean_moved_by_forward_without_gradients": alone,
        },
        holds=forward > 0 and alone > 0 and backward == step == 0,
        confirmed=f"The stored mean moves by up to {forward:.2f} in forward, by 0 in backward() and step(), "
        f"and by up to {alone:.2f} in a forward pass under no_grad(), with no step at all.",
        refuted=f"The stored mean moves by up to {forward:.2g} in forward, {backward:.2g} in backward(), "
        f"{step:.2g} in step(), {alone:.2g} in forward under no_grad().",
    )


def momentum_weights_the_new_batch() -> Finding:
    """BN's momentum m is the weight of the new batch, the reverse of SGD's momentum, which weights the old."""
    m = 0.1
    bn = nn.BatchNorm1d(1, momentum=m).train()
    bn(torch.tensor([[9.0], [11.0]]))
    new_in_bn = stored_statistics(bn)[0].item() / 10  # the stored mean was 0, the batch's is 10

    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0, momentum=m)
    steps = []
    for gradient in (1.0, 0.0):  # what the second step still knows of the first
        before = weight.item()
        weight.grad = torch.tensor([gradient])
        optimizer.step()
        steps.append(weight.item() - before)
    old_in_sgd = steps[1] / steps[0]
    return judge(
        {"momentum": m, "weight_of_new_batch_in_bn": new_in_bn, "weight_of_old_step_in_sgd": old_in_sgd},
        holds=abs(new_in_bn - m) < 1e-6 and abs(old_in_sgd - m) < 1e-6,
        confirmed=f"With momentum {m} the new batch weighs {new_in_bn:.3f} in BN's stored mean, but in SGD "
        f"it is the old step that weighs {old_in_sgd:.3f}: BN's 0.1 is what SGD would call 0.9.",
        refuted=f"With momentum {m} the new batch weighs {new_in_bn:.3f} in BN's stored mean; in SGD the old "
        f"step weighs {old_in_sgd:.3f}.",
    )


def without_tracking_eval_depends_on_the_batch() -> Finding:
    """With track_running_stats=False the output for a sample in eval mode depends on who else is in the batch;
    with True it does not.
    """
    sample, some, others = features(1), features(63), 3 + features(63)
    moved = {}
    for tracks in (False, True):
        bn = nn.BatchNorm2d(256, track_running_stats=tracks).train()
        bn(features())
        bn.eval()
        first, second = (bn(torch.cat([sample, company]))[0] for company in (some, others))
        moved[tracks] = largest(first - second)
    return judge(
        {"output_moved_without_tracking": moved[False], "output_moved_with_tracking": moved[True]},
        holds=moved[False] > 1e-3 and moved[True] < 1e-6,
        confirmed=f"Among other neighbours the same sample's output moves by up to {moved[False]:.2f} in "
        f"eval mode without tracking, by {moved[True]:.2g} with it: without, eval mode is train mode.",
        refuted=f"Among other neighbours the same sample's output moves by up to {moved[False]:.2g} without "
        f"tracking, by {moved[True]:.2g} with it.",
    )


def without_affine_no_gamma_and_beta() -> Finding:
    """With affine=False BN has no gamma and beta."""
    with_them, without = nn.BatchNorm2d(256), nn.BatchNorm2d(256, affine=False)
    many, none = (sum(parameter.numel() for parameter in bn.parameters()) for bn in (with_them, without))
    x = features()
    difference = largest(with_them.train()(x) - without.train()(x))
    return judge(
        {
            "parameters_affine_true": many,
            "parameters_affine_false": none,
            "output_difference_before_training": difference,
        },
        holds=many == 2 * 256 and none == 0,
        confirmed=f"BatchNorm2d(256) has {many} parameters with affine=True and {none} with affine=False. "
        f"Before training (gamma = 1, beta = 0) their outputs differ by {difference:.2g}.",
        refuted=f"BatchNorm2d(256) has {many} parameters with affine=True and {none} with affine=False.",
    )


def eps_protects_a_constant_channel() -> Finding:
    """eps protects BN from a channel that is constant, whose variance is 0."""
    constant = torch.full((8, 256, 4, 4), 5.0)
    with_eps = 100 * batch_norm().train()(constant).isfinite().double().mean().item()
    by_formula = (constant - 5) / constant.var(CHANNELS, unbiased=False).sqrt().view(-1, 1, 1)
    without_eps = 100 * by_formula.isfinite().double().mean().item()
    try:
        nn.BatchNorm2d(256, eps=0.0).train()(constant)
        answer = "takes it"
    except ValueError as error:
        answer = f"says: {error}"
    # What eps leaves: a channel that was constant in training is hardly divided by anything at test.
    bn = batch_norm().train()
    for _ in range(300):
        bn(constant)
    gain = (bn.eval()(constant + 0.01) - bn(constant)).mean().item() / 0.01
    return judge(
        {
            "finite_outputs_with_eps_percent": with_eps,
            "finite_outputs_without_eps_percent": without_eps,
            "torch_on_eps_0": answer,
            "gain_at_test_after_constant_training": gain,
        },
        holds=with_eps == 100 and without_eps < 100,
        confirmed=f"With eps = 1e-5 {with_eps:.0f} % of the outputs are finite, by the formula without it "
        f"{without_eps:.0f} % (0 / 0). Its limit: when a channel that was constant in training moves at "
        f"test, BN multiplies the change by {gain:.0f}, about 1 / sqrt(eps).",
        refuted=f"Finite are {with_eps:.0f} % of the outputs with eps = 1e-5, {without_eps:.0f} % without.",
    )
