"""BatchNorm's stored statistics: how far they are from those of the data, and what moves them."""

from collections.abc import Iterator
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.modes.finding import Finding, judge
from experiments.modes.networks import (
    bn_dropout_network,
    digits,
    error_percent,
    stored_statistics,
    train,
)


def hundred_batches(labels: Tensor, size: int, is_shuffled: bool) -> Iterator[Tensor]:
    """Yield the indices of 100 batches of whole epochs, in a fresh random order each, or class by class."""
    count = 0
    while True:
        order = torch.randperm(len(labels)) if is_shuffled else labels.argsort()
        for batch in order[: len(order) // size * size].view(-1, size):
            if count == 100:
                return
            yield batch
            count += 1


def gap_of_stored_statistics(
    momentum: float | None = 0.1, batch_size: int = 64, is_shuffled: bool = True, lr: float = 0.0
) -> tuple[float, float]:
    """Feed 100 batches of digits through Linear(64, 64) - BN - ReLU - Linear(64, 10), trained at rate `lr`.

    Return how far BN's stored statistics then are from the exact ones of all training data, with the weights as
    they are at the end: root mean square over features and 4 repetitions, in percent; the mean in standard
    deviations, the variance relative to the exact (unbiased) one.
    """
    data = digits()
    inputs, labels = data.train_inputs, data.train_labels
    mean_gaps, variance_gaps = [], []
    for _ in range(4):
        linear, bn, head = nn.Linear(64, 64), nn.BatchNorm1d(64, momentum=momentum), nn.Linear(64, 10)
        optimizer = torch.optim.SGD([*linear.parameters(), *head.parameters()], lr, momentum=0.9)
        for batch in hundred_batches(labels, batch_size, is_shuffled):
            y = bn.train()(linear(inputs[batch]))
            if lr > 0:
                optimizer.zero_grad()
                F.cross_entropy(head(F.relu(y)), labels[batch]).backward()
                optimizer.step()
        with torch.no_grad():
            exact = linear(inputs)
        mean, variance = stored_statistics(bn)
        mean_gaps.append((mean - exact.mean(0)) / exact.std(0))
        variance_gaps.append(variance / exact.var(0) - 1)
    mean_gap, variance_gap = (
        100 * torch.stack(gaps).square().mean().sqrt().item() for gaps in (mean_gaps, variance_gaps)
    )
    return mean_gap, variance_gap


def stored_statistics_are_those_of_all_training_data() -> Finding:
    """BN's stored statistics are the mean and variance of all training data."""
    sweeps: dict[str, list] = {
        "momentum": [0.01, 0.03, 0.1, 0.3, 1.0, None],
        "batch_size": [8, 16, 32, 64, 128, 256],
        "is_shuffled": [True, False],
        "lr": [0.0, 0.001, 0.01, 0.1, 1.0],
    }
    measured: dict[str, list] = {}
    for key, values in sweeps.items():
        gaps = [gap_of_stored_statistics(**{key: value}) for value in values]
        measured[key] = ["cumulative" if value is None else value for value in values]
        measured[f"mean_gap_percent_by_{key}"] = [mean for mean, _ in gaps]
        measured[f"variance_gap_percent_by_{key}"] = [variance for _, variance in gaps]
    mean, variance = (
        measured["mean_gap_percent_by_momentum"][2],
        measured["variance_gap_percent_by_momentum"][2],
    )
    cumulative = measured["variance_gap_percent_by_momentum"][-1]
    unshuffled = measured["variance_gap_percent_by_is_shuffled"][-1]
    moving = measured["variance_gap_percent_by_lr"][3]
    return judge(
        dict(measured),
        holds=max(mean, variance) < 1,
        confirmed=f"The mean is off by {mean:.2f} % of a standard deviation, the variance by {variance:.2f} "
        "%.",
        refuted="They are an exponential average over the last batches. At momentum 0.1 and batch size 64 "
        f"the stored mean is off by {mean:.1f} % of a standard deviation, the variance by {variance:.1f} %; "
        f"by {unshuffled:.0f} % if batches come class by class; by {moving:.0f} % while the weights move "
        f"(learning rate 0.1); by {cumulative:.1f} % with momentum=None, the plain average, and frozen "
        "weights.",
    )


def test_data_changes_the_weights() -> Finding:
    """Without eval(), test data changes the weights."""
    data = digits()
    network = bn_dropout_network()
    train(network, data.train_inputs, data.train_labels, epochs=5)
    before = deepcopy(network)
    network.train()
    with torch.no_grad():
        for batch in data.test_inputs.split(64):
            network(batch)
        network.eval()
        before.eval()
        answers = [model(data.test_inputs).softmax(1) for model in (network, before)]
    weights_moved = parameters_moved(network, before)
    mean_moved = drift_of_stored_means(network, before)
    answers_moved = (answers[0] - answers[1]).abs().max().item()
    return judge(
        {
            "weights_moved": weights_moved,
            "stored_mean_moved_std": mean_moved,
            "predicted_probability_moved": answers_moved,
        },
        holds=weights_moved > 0,
        confirmed=f"Predicting in train mode moves the weights by up to {weights_moved:.2g}.",
        refuted=f"No weight moves, but BN's stored means do, by {mean_moved:.3f} standard deviations after "
        "one pass over the test data, and with them later predictions: a probability in eval mode moves by "
        f"up to {answers_moved:.2f}.",
    )


def frozen_model_drifts_in_train_mode() -> Finding:
    """A trained model A, used frozen inside the joint training of a model B, drifts in train mode: its BN
    statistics move although none of its parameters is updated. In eval mode they stay.
    """
    data = digits()
    trained = bn_dropout_network()
    train(trained, data.train_inputs, data.train_labels, epochs=5)
    before = error_percent(trained.eval(), data.test_inputs, data.test_labels)
    drift, moved, after = {}, {}, {}
    for mode in ("train", "eval"):
        a, b = deepcopy(trained).requires_grad_(False), nn.Linear(10, 10)
        a.train(mode == "train")
        # B's task: the same digits with black and white exchanged, seen through A.
        optimizer = torch.optim.SGD(b.parameters(), lr=0.05)
        for batch in torch.randperm(len(data.train_inputs)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(b(a(-data.train_inputs[batch])), data.train_labels[batch]).backward()
            optimizer.step()
        drift[mode], moved[mode] = drift_of_stored_means(a, trained), parameters_moved(a, trained)
        after[mode] = error_percent(a.eval(), data.test_inputs, data.test_labels)
    return judge(
        {
            "error_of_a_before_percent": before,
            **{f"stored_mean_of_a_drift_std_{mode}_mode": value for mode, value in drift.items()},
            **{f"parameters_of_a_moved_{mode}_mode": value for mode, value in moved.items()},
            **{f"error_of_a_after_{mode}_mode_percent": value for mode, value in after.items()},
        },
        holds=drift["train"] > 0.01 and drift["eval"] == 0 and max(moved.values()) == 0,
        confirmed=f"With A in train mode its stored means drift by {drift['train']:.2f} standard deviations "
        f"in one epoch of B, and A's own test error goes from {before:.1f} to {after['train']:.1f} %, with "
        f"no parameter changed; with A in eval mode they drift by {drift['eval']:.0f} and it stays "
        f"{after['eval']:.1f} %.",
        refuted=f"A's stored means drift by {drift['train']:.2g} standard deviations in train mode and "
        f"{drift['eval']:.2g} in eval mode; its parameters move by {moved['train']:.2g} and "
        f"{moved['eval']:.2g}.",
    )


def parameters_moved(now: nn.Module, then: nn.Module) -> float:
    """Largest absolute difference between the parameters of two copies of a network."""
    pairs = zip(now.parameters(), then.parameters(), strict=True)
    return max((after - before).abs().max().item() for after, before in pairs)


def drift_of_stored_means(now: nn.Sequential, then: nn.Sequential) -> float:
    """Root mean square change of the first BN's stored means, in standard deviations that it stored before."""
    (mean_now, _), (mean_then, variance_then) = stored_statistics(now[1]), stored_statistics(then[1])
    return ((mean_now - mean_then) / variance_then.sqrt()).square().mean().sqrt().item()
