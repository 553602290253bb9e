"""What no statistics mend: batches that differ, steps that differ, too few values to normalise by.

Train mode normalises by the batch at hand, eval mode by one set of statistics for all. Where batches are not
random draws of one population, where one layer is called at several places that get different inputs, or where a
batch has hardly any values per channel, no stored statistics make the two agree.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import chdtri, fdtri
from torch import Tensor

from .channels import between
from .moments import GroupedMoments, SampleSums
from .norms import Norm

TOLERANCE = 0.1  # of all variance that lies between batches; less, as in data a little sorted, is no alarm
FEW = 4  # values per channel
ENOUGH = 8  # batches, to tell from their means how many independent values they have


class BatchSpread:
    """How far the means of batches are apart, for a layer's input in eval mode: there no sample knows of another.

    The unit is a sample's mean over its positions, since neighbouring pixels are alike.
    """

    def __init__(self) -> None:
        self._reference: Tensor | None = (
            None  # the first batch's mean [channels], which the sums are taken around
        )
        # Of samples, of their squares, and of the squares of batches' sums over their size, [channels] each.
        self._total = self._square = self._of_batches = torch.zeros(0)
        self._samples = self._batches = 0

    def add(self, batch: SampleSums) -> None:
        """Add what was summed up of a batch."""
        sums, positions, around = batch
        means = sums if positions == 1 else sums[0] / positions  # [samples, channels]
        if around is not None:
            means = means + around.to(means)
        if self._reference is None:
            self._reference = means.mean(0)
            self._total, self._square, self._of_batches = means.new_zeros(3, means.shape[1]).unbind()
        means = means - self._reference.to(means)
        total = means.sum(0)
        self._total.add_(total)
        self._square.add_(means.square_().sum(0))
        self._of_batches.addcmul_(total, total, value=1 / len(means))
        self._samples += len(means)
        self._batches += 1

    def _variances(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean squares between batches and within them, [channels] each, of those channels that vary."""
        sums = torch.stack((self._total, self._square, self._of_batches))
        total, square, of_batches = sums.cpu().double().numpy()
        apart = np.maximum(of_batches - total**2 / self._samples, 0) / max(self._batches - 1, 1)
        within = np.maximum(square - of_batches, 0) / max(self._samples - self._batches, 1)
        varies = apart + within > 0
        return apart[varies], within[varies]

    @property
    def ratio(self) -> float:
        """F: how much the means of batches differ, as a multiple of what those of random batches do; about 1.

        Mean squares are summed over channels, each in units of its variance. nan for fewer than 2 batches, and for
        batches of single samples.
        """
        if self._batches < 2 or self._samples <= self._batches:
            return math.nan
        apart, within = self._variances()
        weights = 1 / (apart / self._size + within)
        below = float(within @ weights)
        return float(apart @ weights) / below if below > 0 else math.nan

    @property
    def _size(self) -> float:
        return self._samples / self._batches

    def is_alarm(self, level: float) -> bool:
        """Whether batches differ by more than the tolerance, and than random ones do at this level.

        The quantile is that of a single channel: for channels that vary together it holds, for others it is wide.
        """
        ratio = self.ratio
        if not ratio > 1 or (ratio - 1) / (ratio - 1 + self._size) < TOLERANCE:
            return False
        return ratio > fdtri(self._batches - 1, self._samples - self._batches, level)

    def is_few(self, variance: Tensor, level: float) -> bool:
        """Whether batches have no more than `FEW` independent values, beyond doubt at this level."""
        independent = self.independent_values(variance)
        freedom = self._batches - 1
        return bool(independent <= FEW) and FEW / independent > chdtri(freedom, 1 - level) / freedom

    def independent_values(self, variance: Tensor) -> float:
        """As how many independent values per channel a batch counts; `variance`: of all values, [channels].

        nan for too few batches to tell.
        """
        if self._batches < ENOUGH:
            return math.nan
        apart = float(np.sum(self._variances()[0])) / self._size
        return float(variance.sum()) / apart if apart > 0 else math.nan


class Steps:
    """A layer's inputs in train mode by the place of the call, for one that is called several times a forward."""

    def __init__(self) -> None:
        self._places: list[GroupedMoments] = []
        self._next = 0

    def start(self) -> None:
        """A new forward begins."""
        self._next = 0

    def add(self, x: Tensor) -> None:
        """Add the input of the next call."""
        if self._next == len(self._places):
            self._places.append(GroupedMoments())
        self._places[self._next].update(x)
        self._next += 1

    def found(self, norm: Norm, level: float) -> "StepSpread":
        """How far the calls' moments are apart."""
        if len(self._places) < 2:
            return StepSpread()
        first, *others = self._places
        is_alarm = False
        for other in others:
            channels = between(other, first, norm, is_paired=other.samples == first.samples)
            is_alarm |= bool(channels.off(1 - (1 - level) / len(others)).any())
        variances = torch.stack([place.variance for place in self._places]).numpy() + norm.eps
        means = torch.stack([place.mean for place in self._places]).numpy()
        within = variances.mean(0)
        ratio = math.exp(math.sqrt(float(np.mean(np.log(variances / variances.mean(0)) ** 2))))
        offset = math.sqrt(float(np.mean((means - means.mean(0)) ** 2 / within)))
        return StepSpread(len(self._places), ratio, offset, is_alarm)


class StepSpread(NamedTuple):
    """How far the moments of a layer's calls are from their average over calls, root mean square over channels.

    `ratio`: of variances, 1 where they are alike; `offset`: of means, in standard deviations.
    """

    calls: int = 1
    ratio: float = math.nan
    offset: float = math.nan
    is_alarm: bool = False
