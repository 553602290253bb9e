"""scikit-learn's digits: 1,797 real 8x8 scans inside the package, so the default run needs no network.

They are read from the package's file, and split here as scikit-learn would: importing the library takes 0.7 of the
3.4 seconds that a command of one epoch computes, and 80 MB.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from experiments.checks import ConfigError

from .dataset import Data

TEST_SAMPLES = 360


def load_digits() -> Data:
    """Load the digits flat: 1,437 training and 360 test samples [N, 64] of 10 classes, the split fixed.

    One mean and one standard deviation of the whole training part standardise all pixels, as is customary for
    images. Standardising every pixel by itself would make each mean zero, and so hide the c^2 term of the
    theory at the first layer.

    Raises:
        ConfigError: scikit-learn is not there, or keeps its digits elsewhere.
    """
    package = find_spec("sklearn")
    file = Path(package.origin).parent / "datasets/data/digits.csv.gz" if package and package.origin else None
    if not file or not file.is_file():
        raise ConfigError(f"data=digits: there is no {file or 'scikit-learn'}; install scikit-learn")
    table = np.loadtxt(file, delimiter=",")
    pixels, labels = table[:, :-1], table[:, -1].astype(np.int64)
    train, test = stratified_split(labels, TEST_SAMPLES)
    mean, std = pixels[train].mean(), pixels[train].std()
    inputs = torch.from_numpy((pixels - mean) / std).float()
    targets = torch.from_numpy(labels)
    return Data("digits", inputs[train], targets[train], inputs[test], targets[test], classes=10)


def stratified_split(labels: np.ndarray, test_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of the training and of the test samples among `labels` [N], whole numbers from 0 on.

    Each class has its share of both, to the next sample; classes with the largest remainders have one more in
    training. Of the digits and 360 it is scikit-learn's `train_test_split(..., stratify=labels, random_state=0)`.
    """
    random = np.random.RandomState(0)
    counts = np.bincount(labels)
    shares = counts / counts.sum() * (len(labels) - test_samples)
    in_training = np.floor(shares).astype(int)
    remainders = shares - in_training
    for remainder in np.unique(remainders)[::-1]:
        if lacking := len(labels) - test_samples - in_training.sum():
            tied = np.flatnonzero(remainders == remainder)
            in_training[random.choice(tied, min(len(tied), lacking), replace=False)] += 1
    train, test = [], []
    for label, count in enumerate(in_training):
        places = np.flatnonzero(labels == label)
        places = places[random.permutation(len(places))]
        train.append(places[:count])
        test.append(places[count:])
    return random.permutation(np.concatenate(train)), random.permutation(np.concatenate(test))
