"""Theory as a curve between the strengths that were measured.

Eq 8, Eq 12 and the exact law all have the form ratio = 1 / (1 + g sigma^2). The *noise gain* g says how much
variance a unit of noise variance adds, as a share of the variance without noise: (c^2 + v) / v in Eq 8, 1
for a zero-mean input. Moments move when a network is trained under other noise, so g is taken from every
strength that was measured, and interpolated between them.
"""

import numpy as np
import pandas as pd

from ..theory import ratio_nominal


def drawn_at(measured: pd.Series, *, logarithmic: bool = False) -> np.ndarray:
    """Where a curve through what was measured is drawn: close by each other, and where it was measured."""
    low, high = measured.min(), measured.max()
    between = np.geomspace(low, high, 100) if logarithmic else np.linspace(0, high, 100)
    return np.unique([*between[between < high], *measured])


def added(ratio):
    """What noise adds to the variance, as a share of the variance without it: 1 / ratio - 1, of the same kind."""
    return 1 / ratio - 1


def noise_gain(ratio: np.ndarray, noise_variance: np.ndarray) -> np.ndarray:
    """The g of ratio = 1 / (1 + g noise_variance)."""
    return added(ratio) / noise_variance


def ratio_curve(predicted: pd.DataFrame, at: np.ndarray) -> np.ndarray:
    """The predicted ratio at any noise variance.

    Args:
        predicted: columns noise_variance (> 0) and mean, the ratio predicted from the moments measured there.
        at: noise variances, [points]; outside the measured range the nearest gain is used.

    Returns:
        Ratios, [points]; the curve runs through every row of `predicted`, and through 1 without noise.
    """
    ordered = predicted.sort_values("noise_variance")
    variance = ordered["noise_variance"].to_numpy()
    gain = np.interp(at, variance, noise_gain(ordered["mean"].to_numpy(), variance))
    return ratio_nominal(gain * at)
