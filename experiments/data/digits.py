"""scikit-learn's digits: 1,797 real 8x8 scans inside the package, so the default run needs no network."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from .dataset import Data

TEST_SAMPLES = 360


def load_digits() -> Data:
    """Load the digits flat: 1,437 training and 360 test samples [N, 64] of 10 classes, the split fixed.

    One mean and one standard deviation of the whole training part standardise all pixels, as is customary for
    images. Standardising every pixel by itself would make each mean zero, and so hide the c^2 term of the
    theory at the first layer.
    """
    with warnings.catch_warnings():
        # Where processes can share nothing joblib says at its import how it will do without. Nothing here asks it.
        warnings.filterwarnings("ignore", ".* joblib will operate in serial mode")
        from sklearn import datasets
        from sklearn.model_selection import train_test_split

    pixels, labels = map(np.asarray, datasets.load_digits(return_X_y=True))
    train, test = train_test_split(
        np.arange(len(labels)), test_size=TEST_SAMPLES, stratify=labels, random_state=0
    )
    mean, std = pixels[train].mean(), pixels[train].std()
    inputs = torch.from_numpy((pixels - mean) / std).float()
    targets = torch.from_numpy(labels).long()
    return Data("digits", inputs[train], targets[train], inputs[test], targets[test], classes=10)
