"""BatchNorm in train mode and the size of the batch that it sees, down to a single sample."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from experiments.modes.finding import Finding, judge
from experiments.modes.networks import (
    as_images,
    batch_norm,
    bn_dropout_network,
    digits,
    error_percent,
    image_network,
    train,
)


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
