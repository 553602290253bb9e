"""Advice is tried before it is given: what adjusting does to the user's metric, on the network itself, undone."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from .batches import Forward
from .preserve import unchanged
from .repair import Metric, accuracy, adjust, value_of


class Trial(NamedTuple):
    """A metric in eval mode before and after `adjust`; higher is better."""

    metric: str  # and what it was taken on
    before: float
    after: float

    def __str__(self) -> str:
        return f"{self.metric} from {self.before:.1f} to {self.after:.1f} ({self.after - self.before:+.1f})"

    @property
    def helps(self) -> bool:
        """Whether the metric rises."""
        return self.after > self.before


@torch.no_grad()
def try_adjusting(
    model: nn.Module,
    batches: Iterable[Any],
    eval_batches: Iterable[Any] | None,
    metric: Metric,
    forward: Forward | None,
) -> Trial | None:
    """Return what `adjust` on `batches` does to the metric; what the model holds is put back.

    The metric is taken on the evaluation batches, where there are any, else on the training batches. None where
    it is not a number, as accuracy without labels, or where batches can be read only once.
    """
    scored = batches if eval_batches is None else eval_batches
    where = "on the training batches" if eval_batches is None else "on the evaluation batches"
    if isinstance(batches, Iterator) or isinstance(scored, Iterator):
        return None
    score: Callable[[], float]
    if metric is accuracy:
        name, score = "accuracy", lambda: accuracy(model, scored, forward=forward)
    else:
        name, score = getattr(metric, "__name__", "the metric"), lambda: value_of(metric, model, scored)
    with unchanged(model, batches, scored):
        model.eval()
        before = score()
    if math.isnan(before):
        return None
    with unchanged(model, batches, scored):
        adjust(model, batches, forward=forward)
        model.eval()
        return Trial(f"{name} {where}", before, score())
