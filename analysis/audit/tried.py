"""Advice is tried before it is given: what adjusting does to the user's metric, on the network itself, undone."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from .batches import Forward, Size
from .preserve import unchanged
from .repair import Metric, accuracy, adjust, right_classes, value_of

CERTAIN = 1.96  # standard errors, of 95 %


class Trial(NamedTuple):
    """A metric in eval mode before and after `adjust`; higher is better."""

    metric: str  # and what it was taken on
    before: float
    after: float
    is_clear: bool  # whether the difference is more than chance; of a metric of the user's it counts as that

    def __str__(self) -> str:
        doubt = "" if self.is_clear else ", no more than chance"
        change = f"{self.after - self.before:+.1f}{doubt}"
        return f"{self.metric} from {self.before:.1f} to {self.after:.1f} ({change})"


@torch.no_grad()
def try_adjusting(
    model: nn.Module,
    batches: Iterable[Any],
    eval_batches: Iterable[Any] | None,
    metric: Metric,
    forward: Forward | None,
    size: Size | None,
) -> Trial | None:
    """Return what `adjust` on `batches` does to the metric; what the model holds is put back.

    The metric is taken on the evaluation batches, where there are any, else on the training batches. None where
    it is not a number, as accuracy without labels, or where batches can be read only once. Accuracies differ by
    chance where as many samples are lost as gained, but for 1.96 standard errors (McNemar's test).
    """
    scored = batches if eval_batches is None else eval_batches
    where = "on the training batches" if eval_batches is None else "on the evaluation batches"
    if isinstance(batches, Iterator) or isinstance(scored, Iterator):
        return None

    def score() -> torch.Tensor | None:
        """Of each sample whether it is right, or the user's metric as a single number."""
        model.eval()
        if metric is accuracy:
            return right_classes(model, scored, forward)
        value = value_of(metric, model, scored)
        return None if math.isnan(value) else torch.tensor([value], dtype=torch.double)

    with unchanged(model, batches, scored):
        before = score()
    if before is None:
        return None
    with unchanged(model, batches, scored):
        after = score() if adjust(model, batches, forward=forward, size=size) else None
    assert after is not None  # as before
    if metric is not accuracy:
        name = getattr(metric, "__name__", "the metric")
        return Trial(f"{name} {where}", before.item(), after.item(), is_clear=True)
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    percentages = (100 * right.double().mean().item() for right in (before, after))
    is_clear = abs(gained - lost) > CERTAIN * math.sqrt(gained + lost)
    return Trial(f"accuracy {where}", *percentages, is_clear=is_clear)
