"""The noise families: everything that depends on which family a noise is of stands here, once.

Noise is a multiplicative factor m on activations, switched off at test. E[m] = 1, and Var(m) is the *noise
variance*, sigma^2. A family has one parameter, its *strength*. All families are made of one uniform draw u in
[0, 1), so that networks of one seed are paired:

    dropout    m = [u >= rate] / (1 - rate)     Var(m) = rate / (1 - rate)     `rate` is the DROP rate
    uout       m = 1 + beta (2 u - 1)           Var(m) = beta^2 / 3            Eq 15 of arXiv 1801.05134
    gaussian   m = 1 + std Phi^-1(u)            Var(m) = std^2

A further family is one more object in `FAMILIES`, and a section of the same name under `members` in
conf/config.yaml.

Pure functions, nothing of the project imported. NumPy is imported where it is needed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


class FactorLaw(NamedTuple):
    """The law of a factor m as a quadrature: E[f(m)] = sum_q weights[q] f(points[q]), both [nodes]."""

    points: "np.ndarray"
    weights: "np.ndarray"


class FactorNumbers(NamedTuple):
    """How a factor is made of a draw d: m = offset + slope d + step [d >= threshold]."""

    offset: float
    slope: float
    threshold: float
    step: float


@dataclass(frozen=True)
class NoiseFamily:
    """One family of multiplicative noise.

    Attributes:
        name: its word in tables and in the configuration.
        strength_name: the key of its strength in the configuration.
        strength_label: its strength in plots and prose.
        allowed: the strengths that it takes, in words.
        is_allowed: the same as a test, False for nan.
        variance_of: Var(m) by strength, for an allowed one.
        strength_of: the strength by Var(m), for a variance of at most `largest_variance`.
        law_of: the factor's law by strength and number of nodes, see `law`.
        numbers_of: how the factor is made of the draw d, by strength.
        largest_variance: which the family can have.
        inverse_cdf: d of the uniform draw u, elementwise, a tensor of floats; finite at u = 0. None: d is u.
        colour: in every plot, one that stays apart from the others under every common colour blindness.
        marker: in plots where families lie on top of each other.
    """

    name: str
    strength_name: str
    strength_label: str
    allowed: str
    is_allowed: Callable[[float], bool]
    variance_of: Callable[[float], float]
    strength_of: Callable[[float], float]
    law_of: Callable[[float, int], FactorLaw]
    numbers_of: Callable[[float], FactorNumbers]
    largest_variance: float = math.inf
    inverse_cdf: "Callable[[Tensor], Tensor] | None" = None
    colour: str = ""
    marker: str = ""

    def noise_variance(self, strength: float) -> float:
        """Return Var(m) at a strength. Raises ValueError for one that is not allowed."""
        self._check(strength)
        return float(self.variance_of(strength))

    def strength_for(self, noise_variance: float) -> float:
        """Return the strength at which the family has this variance: the inverse of `noise_variance`.

        Raises ValueError for a variance that the family cannot have.
        """
        largest = self.largest_variance
        rounding = 0.0 if largest == math.inf else 1e-9 * largest  # 1/3 may arrive as 0.33333333333333337
        if not (0 <= noise_variance <= largest + rounding and noise_variance < math.inf):
            allowed = "a finite value >= 0" if largest == math.inf else f"0 to {largest:.6g}"
            raise ValueError(f"noise variance of '{self.name}' is {noise_variance!r}; allowed: {allowed}")
        return self.strength_of(noise_variance)

    def label(self, strength: float) -> str:
        """Return noise of this strength in words, for example 'dropout 0.5'; 'no noise' for the baseline."""
        return f"{self.name} {strength:g}" if self.strength_name else "no noise"

    def law(self, strength: float, nodes: int = 20) -> FactorLaw:
        """Return the law of m as points m_q with weights w_q, for means over the factor of any function.

        sum_q w_q = 1, sum_q w_q m_q = 1 and sum_q w_q (m_q - 1)^2 = Var(m), up to rounding. Dropout has its own
        two points. The other families have `nodes` points of the Gauss quadrature of their law, which is exact
        for polynomials in m up to degree 2 nodes - 1.

        Raises ValueError for a strength that is not allowed, and for fewer than 2 nodes.
        """
        self._check(strength)
        if nodes < 2:
            raise ValueError(f"nodes is {nodes}; allowed: at least 2, as one node has no variance")
        return self.law_of(strength, nodes)

    def factor_numbers(self, strength: float) -> FactorNumbers:
        """Return the four numbers that make the factor of its draw. Raises ValueError as `noise_variance`."""
        self._check(strength)
        return self.numbers_of(strength)

    def factor(self, uniform: "Tensor", strength: float) -> "Tensor":
        """Return m of uniform draws u in [0, 1), a tensor of their shape."""
        draw = uniform if self.inverse_cdf is None else self.inverse_cdf(uniform)
        offset, slope, threshold, step = self.factor_numbers(strength)
        m = offset + slope * draw
        return m + step * (draw >= threshold) if step else m

    def _check(self, strength: float) -> None:
        if not self.is_allowed(strength):
            raise ValueError(f"strength of noise '{self.name}' is {strength!r}; allowed: {self.allowed}")


def standard_normal(uniform: "Tensor") -> "Tensor":
    """Return Phi^-1(u) = sqrt(2) erfinv(2 u - 1), finite also where u = 0."""
    smallest = -1 + 2.0**-24
    return (2 * uniform - 1).clamp_(min=smallest).erfinv_().mul_(math.sqrt(2))


def _two_points(rate: float, nodes: int) -> FactorLaw:
    import numpy as np

    return FactorLaw(np.array([0.0, 1 / (1 - rate)]), np.array([rate, 1.0 - rate]))


def _gauss_legendre(beta: float, nodes: int) -> FactorLaw:
    import numpy as np

    points, weights = np.polynomial.legendre.leggauss(nodes)  # of the integral over [-1, 1]
    return FactorLaw(1 + beta * points, weights / 2)


def _gauss_hermite(std: float, nodes: int) -> FactorLaw:
    import numpy as np

    points, weights = np.polynomial.hermite_e.hermegauss(nodes)  # of the integral with exp(-x^2 / 2)
    return FactorLaw(1 + std * points, weights / math.sqrt(2 * math.pi))


def _one_point(strength: float, nodes: int) -> FactorLaw:
    import numpy as np

    return FactorLaw(np.ones(1), np.ones(1))


NO_NOISE = NoiseFamily(  # the baseline: m = 1, at strength 0
    name="none",
    strength_name="",
    strength_label="",
    allowed="0",
    is_allowed=lambda strength: strength == 0,
    variance_of=lambda strength: 0.0,
    strength_of=lambda variance: 0.0,
    law_of=_one_point,
    numbers_of=lambda strength: FactorNumbers(1.0, 0.0, 0.0, 0.0),
    largest_variance=0.0,
)

DROPOUT = NoiseFamily(
    name="dropout",
    strength_name="rate",
    strength_label="drop rate",
    allowed="a drop rate in [0, 1)",
    is_allowed=lambda rate: 0 <= rate < 1,
    variance_of=lambda rate: rate / (1 - rate),
    strength_of=lambda variance: variance / (1 + variance),
    law_of=_two_points,
    numbers_of=lambda rate: FactorNumbers(0.0, 0.0, rate, 1 / (1 - rate)),
    colour="#332288",
    marker="o",
)

UOUT = NoiseFamily(
    name="uout",
    strength_name="beta",
    strength_label="Uout beta",
    allowed="a beta in [0, 1]",
    is_allowed=lambda beta: 0 <= beta <= 1,
    variance_of=lambda beta: beta**2 / 3,
    strength_of=lambda variance: min(1.0, math.sqrt(3 * variance)),
    law_of=_gauss_legendre,
    numbers_of=lambda beta: FactorNumbers(1 - beta, 2 * beta, 0.0, 0.0),
    largest_variance=1 / 3,
    colour="#dda000",
    marker="^",
)

GAUSSIAN = NoiseFamily(
    name="gaussian",
    strength_name="std",
    strength_label="Gaussian std",
    allowed="a standard deviation of at least 0, at most 1e19",
    is_allowed=lambda std: 0 <= std <= 1e19,  # beyond, its square is none of float32's
    variance_of=lambda std: std**2,
    strength_of=math.sqrt,
    law_of=_gauss_hermite,
    numbers_of=lambda std: FactorNumbers(1.0, std, 0.0, 0.0),
    inverse_cdf=standard_normal,
    colour="#cc6699",
    marker="s",
)

# Every family of noise, in the order of tables, legends and panels; the baseline is none of them.
FAMILIES = {noise.name: noise for noise in (DROPOUT, UOUT, GAUSSIAN)}


def family(name: str) -> NoiseFamily:
    """Return the family of this name, `NO_NOISE` for 'none'. Raises ValueError for an unknown name."""
    known = {NO_NOISE.name: NO_NOISE, **FAMILIES}
    if name not in known:
        raise ValueError(f"unknown noise {name!r}; allowed: {', '.join(known)}")
    return known[name]
