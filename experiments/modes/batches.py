"""BatchNorm and its batches: what its statistics are worth, given what it saw."""

from collections.abc import Iterator
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.modes.finding import Finding, judge
from experiments.modes.networks import (
    as_images,
    batch_norm,
    bn_dropout_network,
    digits,
    error_percent,
    image_network,
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


def parameters_moved(now: nn.Module, then: nn.Module) -> float:
    """Largest absolute difference between the parameters of two copies of a network."""
    pairs = zip(now.parameters(), then.parameters(), strict=True)
    return max((after - before).abs().max().item() for after, before in pairs)


def drift_of_stored_means(now: nn.Sequential, then: nn.Sequential) -> float:
    """Root mean square change of the first BN's stored means, in standard deviations that it stored before."""
    (mean_now, _), (mean_then, variance_then) = stored_statistics(now[1]), stored_statistics(then[1])
    return ((mean_now - mean_then) / variance_then.sqrt()).square().mean().sqrt().item()


def errors_by_batch_size(
    network: nn.Sequential, inputs: Tensor, labels: Tensor, sizes: list[int]
) -> list[float | None]:
    """Error in percent with BN, and BN alone, in train mode, the samples cut into batches of each size.

    None where torch refuses: a single vector has no variance.
    """
    errors: list[float | None] = []
    for size in sizes:
        copy = deepcopy(network).eval()
        for module in copy:
            module.train(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d))  # dropout stays off
        batches = torch.randperm(len(inputs)).split(size)
        try:
            wrong = [error_percent(copy, inputs[batch], labels[batch]) for batch in batches]
            errors.append(sum(wrong) / len(wrong))
        except ValueError:
            errors.append(None)
    return errors


def small_test_batches_distort_in_train_mode() -> Finding:
    """In train mode small test batches distort what BN puts out: the smaller the batch, the larger the error,
    while eval mode does not depend on the batch.
    """
    data = digits()
    # Of 256 test samples every batch size sees the same.
    inputs, test_inputs, labels = data.train_inputs, data.test_inputs[:256], data.test_labels[:256]
    sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256]

    vectors = bn_dropout_network()  # BN over a batch of 128 features each: one value a channel and sample
    train(vectors, inputs, data.train_labels, epochs=5)
    by_size = errors_by_batch_size(vectors, test_inputs, labels, sizes)
    in_eval_mode = error_percent(vectors.eval(), test_inputs, labels)
    with torch.no_grad():
        one_by_one = torch.cat([vectors(sample) for sample in test_inputs.split(1)])
        eval_moved = (one_by_one - vectors(test_inputs)).abs().max().item()

    images = image_network()  # BN over feature maps of 8x8: 64 values a channel and sample
    train(images, as_images(inputs), data.train_labels, epochs=2)
    images_by_size = errors_by_batch_size(images, as_images(test_inputs), labels, sizes)
    images_in_eval_mode = error_percent(images.eval(), as_images(test_inputs), labels)

    of_size = dict(zip(sizes, by_size, strict=True))
    two, eight, all_of_them = (of_size[size] or 0.0 for size in (2, 8, 256))
    one_image = (images_by_size[0] or 0.0) - images_in_eval_mode
    return judge(
        {
            "batch_size": sizes,
            "vector_error_train_mode_percent": by_size,
            "vector_error_eval_mode_percent": in_eval_mode,
            "vector_logits_moved_one_by_one_eval_mode": eval_moved,
            "image_error_train_mode_percent": images_by_size,
            "image_error_eval_mode_percent": images_in_eval_mode,
        },
        holds=two > eight > in_eval_mode + 1 and two > all_of_them + 5 and eval_moved < 1e-3,
        confirmed=f"With BN on vectors the test error in batches of 2, 8 and 256 is {two:.0f}, {eight:.1f} "
        f"and {all_of_them:.1f} %, in eval mode {in_eval_mode:.1f} % in any batch. A feature map of 8x8 "
        f"gives BN 64 values a channel: there a batch of 1 changes the error by {one_image:+.1f} points.",
        refuted=f"With BN on vectors the test error in batches of 2, 8 and 256 is {two:.1f}, {eight:.1f} and "
        f"{all_of_them:.1f} %, in eval mode {in_eval_mode:.1f} %, where logits depend on the batch by up to "
        f"{eval_moved:.2g}.",
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


def one_sample_fails_in_train_mode() -> Finding:
    """Normalising a batch of one sample fails in train mode."""

    def try_one(network: nn.Module, sample: Tensor) -> str:
        try:
            network(sample)
            return "works"
        except (ValueError, RuntimeError) as error:
            return f"{type(error).__name__}: {error}"

    vector, image = torch.randn(1, 256), torch.randn(1, 256, 4, 4)
    outcome = {
        "vector_train_mode": try_one(nn.BatchNorm1d(256).train(), vector),
        "feature_map_4x4_train_mode": try_one(batch_norm().train(), image),
        "feature_map_1x1_train_mode": try_one(batch_norm().train(), image[:, :, :1, :1]),
        "vector_eval_mode": try_one(nn.BatchNorm1d(256).eval(), vector),
        "vector_group_norm_train_mode": try_one(nn.GroupNorm(32, 256).train(), vector),
    }
    loader = torch.utils.data.DataLoader(range(65), batch_size=64, drop_last=True)  # type: ignore[arg-type]
    outcome_sizes = [len(batch) for batch in loader]
    fails = {case: answer != "works" for case, answer in outcome.items()}
    return judge(
        {**outcome, "batch_sizes_of_65_samples_with_drop_last": outcome_sizes},
        holds=fails["vector_train_mode"] and fails["feature_map_1x1_train_mode"],
        misleads=not fails["feature_map_4x4_train_mode"],
        confirmed=f"{outcome['vector_train_mode']}. Use eval() for prediction and drop_last=True for "
        "training.",
        needs_care=f'For a vector it does: "{outcome["vector_train_mode"]}". One 4x4 feature map has 16 '
        "values per "
        "channel and passes, normalised by itself alone. Mend: eval() to predict; drop_last=True, or "
        "GroupNorm, to train.",
        refuted="A batch of one sample passes in train mode.",
    )
