"""Moments of the noise in a network's activations, given the sample: what each operation makes of them.

Given the sample, only noise is random. Every element of an activation then has a mean and a noise variance:

    noise m, E[m] = 1    mean the same; variance v + sigma^2 (v + mean^2)              exact
    linear layer         the layer of means; with squared weights, of variances        independent inputs
    sum                  means and variances add                                       independent summands
    batch norm           by the mean and variance over all samples and all noise       exact
    ReLU, maximum        `rectified`, `rectified_maximum`                              normal, independent elements

The last column says for which elements a rule is exact. Each one's own variance is carried, no covariance. What is
left out thereby: neighbours share the noise of their inputs, and a branch shares that of its shortcut.

The moments of a rectified normal variable, and their use to carry dropout's noise through layers, are known (Wang
& Manning 2013, "Fast dropout training"; Gast & Roth 2018, arXiv 1805.11327).

Pure functions of tensors, nothing of the project imported but `noises` and `relu`.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .noises import NO_NOISE, FactorLaw
from .relu import distribution, rectified_normal

# Nodes of the integral over a maximum's values. It ends so many deviations above the largest mean, of those at the
# nodes of the factor that are likely enough to count.
MAXIMUM_NODES = 24
DEVIATIONS = 4.0
SMALLEST_WEIGHT = 1e-4
# The variance of a constant, so that means over deviations are defined.
SMALLEST_VARIANCE = 1e-24

NO_FACTOR = NO_NOISE.law(0.0)


class Normal(NamedTuple):
    """Independent normal variables of any shape."""

    mean: Tensor
    variance: Tensor


class Noisy(NamedTuple):
    """Variables y = m z + r, all of one shape.

    m is the factor of noise that went straight into BN, 1 where there was none; z is what it multiplies;
    r is BN's shift and what was added behind BN. A mean over m is the sum over the nodes of its law.
    """

    z: Normal
    r: Normal
    law: FactorLaw = NO_FACTOR


def without_noise(x: Tensor) -> Noisy:
    """Return constants x as variables."""
    return independent(Normal(x, torch.zeros_like(x)))


def independent(z: Normal) -> Noisy:
    """Return normal variables as ones that no factor multiplies."""
    zero = torch.zeros_like(z.mean)
    return Noisy(z, Normal(zero, zero))


def moments(y: Noisy) -> Normal:
    """Return mean and variance of y, Var(m z) + Var(r) with Var(m z) = v + sigma^2 (v + mean^2). Exact."""
    noise_variance = float(y.law.weights @ (y.law.points - 1) ** 2)
    mean, variance = y.z.mean + y.r.mean, y.z.variance + y.r.variance
    return Normal(mean, variance + noise_variance * (y.z.variance + y.z.mean.square()))


def batch_moments(y: Noisy) -> Normal:
    """Return what BN normalises by: mean and variance of each channel over samples, positions and noise.

        M = mean of E[y],  V = mean of [Var(y) + (E[y] - M)^2]

    y [samples, channels, height, width] -> [channels].
    """
    mean, variance = moments(y)
    variances, means = torch.var_mean(mean, (0, 2, 3), correction=0)
    return Normal(means, variances + variance.mean((0, 2, 3)))


def scaled(y: Noisy, scale: Tensor, shift: Tensor) -> Noisy:
    """Return scale y + shift, as BN does; both are broadcast to the shape of y."""
    z = Normal(scale * y.z.mean, scale.square() * y.z.variance)
    return Noisy(z, Normal(scale * y.r.mean + shift, scale.square() * y.r.variance), y.law)


def total(y: Noisy, other: Noisy) -> Noisy:
    """Return y + other, independent of each other; the factor of `other` is taken as one of a normal variable."""
    mean, variance = moments(other)
    return y._replace(r=Normal(y.r.mean + mean, y.r.variance + variance))


def rectified(y: Noisy) -> Normal:
    """Return mean and variance of max(0, y).

    At a node of m, y is normal with mean m E[z] + E[r] and variance m^2 Var(z) + Var(r), see `relu`.
    """
    first, second = torch.zeros_like(y.z.mean), torch.zeros_like(y.z.mean)
    for a, s, weight in _nodes(y):
        of_node = rectified_normal(a, s)
        first.add_(of_node.mean, alpha=weight)
        second.add_(of_node.square, alpha=weight)
    return Normal(first, (second - first.square()).clamp(min=0))


def rectified_maximum(y: Noisy) -> Normal:
    """Return mean and variance of max(0, y_1, ..., y_k), the last axis being i: [..., k] -> [...].

    By the distribution functions F_i of y_i, sums over the nodes of m_i, in a Gauss-Legendre quadrature:

        E max   = integral over x > 0 of       1 - prod_i F_i(x)
        E max^2 = integral over x > 0 of 2 x (1 - prod_i F_i(x))

    Where all y_i are nearly constant, F_i are steps, which so few nodes place to within their spacing only. These
    errors are of both signs, and go out in a mean over maxima.
    """
    nodes = list(_nodes(y))
    tops = [(a + DEVIATIONS * s).amax(-1) for a, s, weight in nodes if weight > SMALLEST_WEIGHT]
    top = torch.stack(tops).amax(0).clamp(min=0)
    first, second = torch.zeros_like(top), torch.zeros_like(top)
    points, weights = np.polynomial.legendre.leggauss(MAXIMUM_NODES)  # of the integral over [-1, 1]
    for point, weight in zip(points.tolist(), weights.tolist(), strict=True):
        x = top * ((point + 1) / 2)
        below = torch.zeros_like(y.z.mean)
        for a, s, of_node in nodes:
            below.add_(distribution(torch.sub(x.unsqueeze(-1), a).div_(s)), alpha=of_node)
        above = (1 - below.prod(-1)) * top * (weight / 2)
        first += above
        second += 2 * x * above
    return Normal(first, (second - first.square()).clamp(min=0))


def _nodes(y: Noisy) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Yield mean and deviation of y at each node of m, and the node's weight."""
    for m, weight in zip(y.law.points.tolist(), y.law.weights.tolist(), strict=True):
        variance = m**2 * y.z.variance + y.r.variance
        yield m * y.z.mean + y.r.mean, variance.clamp(min=SMALLEST_VARIANCE).sqrt(), weight
