"""The closure: the cumulative shift of every BN layer of an MLP, predicted from its weights and its data.

The exact law (`analysis.theory`) is about a layer's own noise. What a BN layer shows in eval mode also depends on
all the noise before it, which passes through ReLUs. Here it is predicted from weights, BN's scale and shift and
the training data alone: no noise is drawn, no network is run in eval mode, no stored statistics are read. Batches
are infinite and weights are frozen: the target is what BN would store of the whole training set as one batch.

State. The input z of each BN layer is a mixture over classes k with shares pi_k, Gaussian within a class: mean
mu_k, covariance C_k. There is one state in train mode and one in eval mode; both begin with the data's. A block:

    noise before the weight   C <- C + s2 diag(C_ii + mu_i^2), in train mode, from the second block on
    weight                    mu <- W mu,  C <- W C W^T
    BN, in train mode         M_i = sum_k pi_k mu_i
                              V_i = sum_k pi_k [C_ii + sb (C_ii + mu_i^2) + (mu_i - M_i)^2]
                              sb = s2 where noise goes straight into BN, else 0
    BN, in eval mode          M^e, V^e of that state, without sb
    ReLU behind BN            h_i = ReLU(D_i (m z_i - M_i) + beta_i),  D = gamma / sqrt(V + eps)
                              M and V are train mode's in both modes, as BN stores them; in train mode m is the
                              factor of noise straight into BN, else 1

    shift ratio  sum_i V^e_i / sum_i V_i        mean shift  rms over i of (M^e_i - M_i) / sqrt(V_i + eps)

The ReLU of a Gaussian in Hermite polynomials He: with m at the nodes m_q of its law with weights w_q,
a = D (m_q mu - M) + beta, s = |D m_q| sqrt(C_ii), t = a / s, g = sign(D m_q),

    c_0 = sum_q w_q [a Phi(t) + s phi(t)]     c_1 = sum_q w_q g s Phi(t)
    c_k = sum_q w_q g^k s phi(t) He_(k-2)(-t) / sqrt(k!)
    mean c_0     Cov(h_i, h_j) = sum_k rho_ij^k c_k,i c_k,j  (Mehler)
    Var h_i = sum_q w_q [(a^2 + s^2) Phi(t) + a s phi(t)] - c_0^2

with rho the correlation of z without this block's own noise. Exact are the first layer's moments, and its ratio
under noise straight into BN. All else supposes Gaussian classes, which sums of many units come near to.

Moments of dropout were propagated before, to train faster (Wang & Manning 2013, "Fast dropout training") and for
uncertainty (Gast & Roth 2018; Postels et al. 2019). The Hermite expansion of a covariance is Mehler's formula.

Pure functions of tensors, nothing of the project imported but `noises` and `relu`. Means and variances are in
double precision. Covariances between units, which cost nearly all the time, are in single precision.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .noises import NO_NOISE, NoiseFamily
from .relu import rectified_normal

# Hermite terms of a covariance. With 30 the ratios of trained networks change by less than 1e-4 of themselves, and
# by 1e-3 where width 16, depth 8 and strong noise leave one of 1e-4.
TERMS = 12
# Entries of covariances that are worked on at once, so that they stay in a core's cache.
ENTRIES_AT_ONCE = 1 << 18


class Block(NamedTuple):
    """A block of a stack of MLPs: Linear without bias -> BN -> ReLU."""

    weight: Tensor  # [members, units, inputs]
    scale: Tensor  # gamma of BN, [members, units]
    shift: Tensor  # beta of BN, [members, units]


class Noise(NamedTuple):
    """The noise of one member: a family at a strength, at one placement."""

    family: NoiseFamily = NO_NOISE
    strength: float = 0.0
    placement: str = "none"  # before_bn and before_weight act; any other is behind all BN layers, or nowhere


class Prediction(NamedTuple):
    """The cumulative shift of a BN layer, [members] each."""

    shift_ratio: Tensor
    mean_shift: Tensor


class State(NamedTuple):
    """A mixture over classes of the units of a layer, in one mode, for each member."""

    mean: Tensor  # [members, classes, units], double
    variance: Tensor  # within each class, [members, classes, units], double
    covariance: Tensor  # within each class, [members, classes, units, units], single


class Law(NamedTuple):
    """The law of each member's factor as nodes and weights, [nodes, members, 1, 1] each; a weight may be 0."""

    nodes: Tensor
    weights: Tensor


@torch.no_grad()
def predict_mlp(
    inputs: Tensor, labels: Tensor, blocks: Sequence[Block], noises: Sequence[Noise], eps: float = 1e-5
) -> list[Prediction]:
    """Predict the cumulative shift of each BN layer of a stack of MLPs, from the shallowest to the deepest.

    inputs: what the first weight layer reads in training, [samples, features]; labels: their classes, [samples].
    noises: one a member. eps: BN's. A member's numbers do not depend on which others are in the stack.
    """
    labels, order = labels.sort()
    counts = labels.unique_consecutive(return_counts=True)[1]
    classes = inputs[order].float().split(counts.tolist())
    shares = counts.double() / len(labels)
    widest = max(block.weight.shape[1] for block in blocks)
    size = max(1, ENTRIES_AT_ONCE // (len(classes) * widest**2))
    parts = []
    for start in range(0, len(noises), size):
        rows = slice(start, start + size)
        some = [Block(*(parameter.detach()[rows] for parameter in block)) for block in blocks]
        parts.append([*_predict(classes, shares, some, noises[rows], eps)])
    return [Prediction(*map(torch.cat, zip(*of_layer, strict=True))) for of_layer in zip(*parts, strict=True)]


def _predict(
    classes: Sequence[Tensor], shares: Tensor, blocks: Sequence[Block], noises: Sequence[Noise], eps: float
) -> Iterator[Prediction]:
    """Yield what `predict_mlp` returns. classes: the inputs of each, [samples, features]; shares: [classes]."""
    before_weight, before_bn = (
        noise_variances(noises, where, shares) for where in ("before_weight", "before_bn")
    )
    law, no_noise = (factor_law(of, shares) for of in (noises, [Noise()] * len(noises)))
    train = test = state_of_data(classes, blocks[0].weight)
    for index, block in enumerate(blocks):
        if index > 0:
            noisy = with_noise(train, before_weight) if before_weight.any() else train
            weigh = partial(through_weight, weight=block.weight, is_last=index == len(blocks) - 1)
            train, test = _in_both_modes(weigh, noisy, test)
        mean, variance = pooled(shares, train.mean, noisy_variance(train, before_bn))
        test_mean, test_variance = pooled(shares, test.mean, test.variance)
        std = (variance + eps).sqrt()
        mean_shift = ((test_mean - mean) / std).square().mean(1).sqrt()
        yield Prediction(test_variance.sum(1) / variance.sum(1), mean_shift)
        if index == len(blocks) - 1:
            return
        relu = partial(through_relu, slope=block.scale / std, centre=mean, shift=block.shift)
        if before_bn.any():
            train, test = relu(train, law), relu(test, no_noise)
        else:
            train, test = _in_both_modes(partial(relu, law=no_noise), train, test)


def _in_both_modes(step: Callable[[State], State], train: State, test: State) -> tuple[State, State]:
    """Return both states behind a step; until noise first acts they are one, and so is the work."""
    behind = step(train)
    return behind, behind if test is train else step(test)


# --- noise


def noise_variances(noises: Sequence[Noise], placement: str, like: Tensor) -> Tensor:
    """Return s2 of each member's noise at a placement, 0 where it has none there, [members, 1, 1]."""
    variances = [
        noise.family.noise_variance(noise.strength) if noise.placement == placement else 0.0
        for noise in noises
    ]
    return torch.tensor(variances).to(like).view(-1, 1, 1)


def factor_law(noises: Sequence[Noise], like: Tensor) -> Law:
    """Return the law of each member's factor straight before BN; that of no noise is one node at 1."""
    laws = [
        noise.family.law(noise.strength) if noise.placement == "before_bn" else NO_NOISE.law(0.0)
        for noise in noises
    ]
    nodes = torch.zeros(2, max(len(law.points) for law in laws), len(laws), 1, 1)
    nodes = nodes.to(like)
    for member, law in enumerate(laws):
        values = torch.tensor([law.points.tolist(), law.weights.tolist()], dtype=torch.double)
        nodes[:, : values.shape[1], member, 0, 0] = values.to(like)
    return Law(*nodes)


def noisy_variance(state: State, s2: Tensor) -> Tensor:
    """Return the variance of each unit within each class [members, classes, units] under noise of its own."""
    return state.variance + s2 * (state.variance + state.mean.square())


def with_noise(state: State, s2: Tensor) -> State:
    """Return a state whose every unit has noise of its own, of variance s2 [members, 1, 1]."""
    return _with_variance(state.mean, noisy_variance(state, s2), state.covariance.clone())


# --- a block


def state_of_data(classes: Sequence[Tensor], weight: Tensor) -> State:
    """Return the state behind a weight [members, units, features], of the inputs of each class.

    By way of the outputs: no covariance of the features is formed, of which images have many.
    """
    means, covariances = [], []
    for member in weight.float():
        outputs = [rows @ member.T for rows in classes]
        means.append(torch.stack([rows.double().mean(0) for rows in outputs]))
        centred = [rows - mean.float() for rows, mean in zip(outputs, means[-1], strict=True)]
        covariances.append(torch.stack([rows.T @ rows / len(rows) for rows in centred]))
    covariance = torch.stack(covariances)
    return State(torch.stack(means), covariance.diagonal(dim1=-2, dim2=-1).double(), covariance)


def through_weight(state: State, weight: Tensor, is_last: bool = False) -> State:
    """Return the state behind a weight [members, units, inputs].

    Of the last layer the variances alone are of use: covariances are then left out, as an empty tensor.
    """
    weight = weight.float()
    mean = torch.stack([of_member @ w.double().T for of_member, w in zip(state.mean, weight, strict=True)])
    # One member after the other: a product of all at once rounds by how many they are.
    halves = [
        F.linear(C, w) for C, w in zip(state.covariance, weight, strict=True)
    ]  # [classes, inputs, units]
    if is_last:
        variance = [(half * w.T).sum(1, dtype=torch.double) for half, w in zip(halves, weight, strict=True)]
        return State(mean, torch.stack(variance), torch.empty(0))
    covariance = torch.stack([F.linear(half.mT, w) for half, w in zip(halves, weight, strict=True)])
    return State(mean, covariance.diagonal(dim1=-2, dim2=-1).double(), covariance)


def pooled(shares: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of the mixture [members, units], of those of its classes."""
    shares = shares[:, None]
    of_all = (shares * mean).sum(1)
    return of_all, (shares * (variance + (mean - of_all.unsqueeze(1)).square())).sum(1)


def through_relu(state: State, law: Law, slope: Tensor, centre: Tensor, shift: Tensor) -> State:
    """Return the state of ReLU(slope (m z - centre) + shift), m drawn for each unit alone.

    slope, centre, shift: [members, units].
    """
    slope, centre, shift = (values.double().unsqueeze(1) for values in (slope, centre, shift))
    slopes = law.nodes * slope  # [nodes, members, classes or 1, units]
    a = slopes * state.mean - slope * centre + shift
    s = slopes.abs() * state.variance.clamp(min=0).sqrt()
    t, Phi, phi, first, second = rectified_normal(a, s)
    w, sign = law.weights, slopes.sign()
    mean, square = _total(w * first), _total(w * second)
    coefficients = [_total(w * sign * s * Phi)]
    # sign^k He_(k-2)(-t) / sqrt((k-2)!), by its recursion.
    x, before, now = -t * sign, torch.zeros_like(t), torch.ones_like(t)
    w = w * s * phi
    for k in range(2, TERMS + 1):
        coefficients.append(_total(w * now) / math.sqrt(k * (k - 1)))
        before, now = now, (x * now - math.sqrt(k - 2) * before) / math.sqrt(k - 1)
    covariance = _mehler(_correlation(state), [c.float() for c in coefficients])
    return _with_variance(mean, (square - mean.square()).clamp(min=0), covariance)


def _total(of_nodes: Tensor) -> Tensor:
    """Return the sum over nodes, in their order: torch's own rounds by how many members there are."""
    return reduce(torch.add, of_nodes)


def _correlation(state: State) -> Tensor:
    """Return the correlations [members, classes, units, units]; of a constant unit they are 0."""
    inverse = state.variance.clamp(min=1e-30).rsqrt().float()
    return (state.covariance * inverse.unsqueeze(-1) * inverse.unsqueeze(-2)).clamp_(-1, 1)


def _mehler(correlation: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
    """Return sum_k rho_ij^k c_k,i c_k,j by Horner's rule, k from 1. Each c_k is [members, classes, units]."""
    total = torch.zeros_like(correlation)
    for c in reversed(coefficients):
        total.addcmul_(c.unsqueeze(-1), c.unsqueeze(-2)).mul_(correlation)
    return total


def _with_variance(mean: Tensor, variance: Tensor, covariance: Tensor) -> State:
    """Return a state of these moments, the diagonal of `covariance` being written over."""
    covariance.diagonal(dim1=-2, dim2=-1).copy_(variance)
    return State(mean, variance, covariance)
