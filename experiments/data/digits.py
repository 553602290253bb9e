"""scikit-learn's digits: 1,797 real 8x8 scans inside the package, so the default run needs no network."""

from __future__ import annotations

import torch

from .dataset import Data

TEST_SAMPLES = 360


def load_digits() -> Data:
    """Load the digits flat: 1,437 training and 360 test samples [N, 64] of 10 classes, the split fixed.

    One mean and one standard deviation of the whole training part standardise all pixels, as is customary for
    images. Standardising every pixel by itself would make each mean zero, and so hide the c^2 term of the
    theory at the first layer.
    """
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    pixels, labels = datasets.load_digits(return_X_y=True)
    train_pixels, test_pixels, train_labels, test_labels = train_test_split(
        pixels, labels, test_size=TEST_SAMPLES, stratify=labels, random_state=0
    )
    mean, std = train_pixels.mean(), train_pixels.std()
    return Data(
        name="digits",
        train_inputs=torch.from_numpy((train_pixels - mean) / std).float(),
        train_labels=torch.from_numpy(train_labels).long(),
        test_inputs=torch.from_numpy((test_pixels - mean) / std).float(),
        test_labels=torch.from_numpy(test_labels).long(),
        classes=10,
    )
