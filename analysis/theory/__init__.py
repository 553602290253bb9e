"""What noise does to a variance: the paper's formulas, and the exact law they approximate.

Pure functions, nothing of the project imported from outside this package. Noise is a multiplicative factor m
with E[m] = 1 and Var(m) = `noise_variance` (sigma^2 in prose), independent of the activations it multiplies.
Every dropout rate here is a DROP rate (the paper's p is the keep probability, 1 - rate), and every ratio is
Var_test / Var_train, the paper's Delta: below 1 means that BatchNorm divides by too much at test time.
Equation numbers are those of arXiv 1801.05134.

The formulas take floats, numpy arrays, pandas columns and tensors alike. What they need of a layer and its
input, `analysis.theory.layers` computes; what depends on the family of the noise, `analysis.theory.noises` knows.
"""

import math
from typing import Any, TypeAlias

from .noises import family

Quantity: TypeAlias = Any  # a float, a numpy array, a pandas column or a tensor: anything with arithmetic


# --- noise families, by name


def noise_variance(noise: str, strength: float) -> float:
    """Var(m), the one axis on which the noise families compare; see `analysis.theory.noises` for the families.

    Raises ValueError for an unknown noise or a strength out of range.
    """
    return family(noise).noise_variance(strength)


def strength_for(noise: str, noise_variance: float) -> float:
    """The strength at which a noise family has this variance: the inverse of `noise_variance`.

    Raises ValueError for an unknown noise and for a variance the family cannot have: `uout` reaches 1/3 at
    most, `none` only 0.
    """
    return family(noise).strength_for(noise_variance)


# --- the paper's ratios


def ratio_before_bn(c: Quantity, v: Quantity, noise_variance: Quantity) -> Quantity:
    """Var_test / Var_train of X = m x, noise straight into BatchNorm: v / (v + sigma^2 (c^2 + v)). Eq 8.

    c, v: mean and variance of the noise's input x. Exact for one channel; for a layer, c and v are averages.
    """
    return v / (v + noise_variance * (c**2 + v))


def ratio_nominal(noise_variance: Quantity) -> Quantity:
    """Eq 8 for a zero-mean input (c = 0): 1 / (1 + sigma^2). Eq 15 is its Uout case, 3 / (3 + beta^2).

    For dropout it is the keep probability 1 - rate. Behind a ReLU c is not 0, and the true ratio is lower.
    """
    return 1 / (1 + noise_variance)


def ratio_before_weight(
    c: Quantity, v: Quantity, rho: Quantity, d_cos2: Quantity, noise_variance: Quantity
) -> Quantity:
    """Var_test / Var_train of X = sum_i w_i m_i x_i, noise before a weight layer. Eq 12.

        (v + v rho (d cos^2 - 1)) / (v + sigma^2 (c^2 + v) + v rho (d cos^2 - 1))

    Assumes that all d inputs share one mean c, one variance v and one correlation rho.
    d_cos2: fan-in times squared cosine, d * (sum w)^2 / (d sum w^2) = (sum w)^2 / sum w^2.
    `exact_ratio` needs none of these assumptions.
    """
    from_correlation = v * rho * (d_cos2 - 1)
    return (v + from_correlation) / (v + noise_variance * (c**2 + v) + from_correlation)


def input_correlation(variance_of_sum: Quantity, mean_variance: Quantity, fan_in: int) -> Quantity:
    """rho: mean off-diagonal covariance of the d inputs over their mean variance v, from Var(sum_i x_i).

        rho = (Var(sum_i x_i) - d v) / (d (d - 1)) / v

    which spares forming the d x d matrix (`patch_sum` gives the sums). Both variances must be of one kind,
    biased or unbiased, over the same samples. With fan_in = 1 there is no pair to correlate: nan.
    """
    if fan_in == 1:
        return mean_variance * math.nan
    pairs = fan_in * (fan_in - 1)
    return (variance_of_sum - fan_in * mean_variance) / pairs / mean_variance


def shift_magnitude(ratio: Quantity) -> Quantity:
    """max(ratio, 1 / ratio) >= 1, the paper's Figure 4: how far off, whichever way.

    nan stays nan, and a ratio of 0 gives inf.
    """
    if isinstance(ratio, float | int) and ratio == 0:
        return math.inf
    inverse = 1 / ratio
    return (ratio + inverse + abs(ratio - inverse)) / 2  # the maximum, in arithmetic that every type here has


# --- the exact law


def exact_train_variance(
    test_variance: Quantity, noise_variance: Quantity, mean_squared_response: Quantity
) -> Quantity:
    """Var_train = Var_test + sigma^2 * mean over samples and positions of L2(x^2).

    Ours: no homogeneity assumed. Per output channel, upstream as in training: the law of the *local* shift,
    that of this layer's own noise alone.
    Var_test and Var_train are pooled over samples and positions, both unbiased (or both of a population).
    mean_squared_response: the mean of `squared_response`, or of `squared_response_shared`.
    """
    return test_variance + noise_variance * mean_squared_response


def exact_ratio(
    test_variance: Quantity, noise_variance: Quantity, mean_squared_response: Quantity
) -> Quantity:
    """Var_test / Var_train by `exact_train_variance`; what Eq 8 and Eq 12 approximate."""
    return test_variance / exact_train_variance(test_variance, noise_variance, mean_squared_response)
