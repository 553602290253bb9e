"""Gaussian inputs of known mean, variance and correlation: the theory's assumptions, fulfilled."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .dataset import Data


def gaussian_bytes(*, features: int, classes: int, train_size: int, test_size: int) -> int:
    """Return how many bytes of memory the draw takes at its peak: inputs, labels, directions, scores of a part."""
    samples, part = train_size + test_size, max(train_size, test_size)
    return 4 * (features * (samples + 2 * classes) + part * (classes + 1)) + 8 * samples


def load_gaussian(
    *,
    features: int,
    classes: int,
    mean: float,
    variance: float,
    correlation: float,
    train_size: int,
    test_size: int,
    seed: int,
) -> Data:
    """Draw inputs [N, features] that are jointly Gaussian, every feature with the same moments.

        x_i = mean + sqrt(variance) (sqrt(correlation) z_0 + sqrt(1 - correlation) z_i),   all z iid N(0, 1)

    so that E[x_i] = mean (the theory's c), Var x_i = variance (v) and Corr(x_i, x_j) = correlation (rho).
    The label is the largest of `classes` fixed random linear scores of the centred inputs. It is read off the
    inputs and never put into them: the moments above hold exactly, and a linear classifier can make no error.
    """
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(classes, features, generator=generator)  # [classes, features]
    if features > 1:
        # Rows that sum to zero do not see z_0, which at high correlation would else decide every label.
        directions -= directions.mean(dim=1, keepdim=True)
    directions = torch.nn.functional.normalize(directions, dim=1)

    def draw(samples: int) -> tuple[Tensor, Tensor]:
        """Give inputs [samples, features] and their labels [samples]."""
        common = torch.randn(samples, 1, generator=generator)
        centred = torch.randn(samples, features, generator=generator)
        centred.mul_(math.sqrt(1 - correlation)).add_(common, alpha=math.sqrt(correlation))
        centred.mul_(math.sqrt(variance))
        labels = (centred @ directions.T).argmax(dim=1)
        return centred.add_(mean), labels

    train_inputs, train_labels = draw(train_size)
    test_inputs, test_labels = draw(test_size)
    return Data("gaussian", train_inputs, train_labels, test_inputs, test_labels, classes)
