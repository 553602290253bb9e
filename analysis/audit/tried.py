"""Advice is tried before it is given: what adjusting does to the user's metric, on the network itself, undone."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from .batches import Forward, Size
from .modes import Modes
from .preserve import unchanged
from .repair import Metric, accuracy, adjust, right_classes, value_of

CERTAIN = 1.96  # standard errors, of 95 %


class Trial(NamedTuple):
    """A metric before and after `adjust`; higher is better."""

    metric: str  # and what it was taken on
    scores: (
        pd.DataFrame
    )  # as `compare` gives them, before and after; columns of the modes that were asked for
    digits: str  # how a number of it is written
    is_clear: bool  # whether eval mode differs by more than chance; a metric of the user's does if it differs

    @property
    def gain(self) -> float:
        """By how much the metric rises in eval mode."""
        before, after = self.scores["eval_mode"]
        return after - before

    def __str__(self) -> str:
        before, after = (format(score, self.digits) for score in self.scores["eval_mode"])
        doubt = "" if self.is_clear else ", no more than chance"
        return f"{self.metric} from {before} to {after} ({self.gain:+{self.digits}}{doubt})"


@torch.no_grad()
def try_adjusting(
    model: nn.Module,
    batches: Iterable[Any],
    eval_batches: Iterable[Any] | None = None,
    metric: Metric = accuracy,
    *,
    forward: Forward | None = None,
    size: Size | None = None,
    frozen: str = "keep",
    modes: Sequence[str] = ("eval",),
) -> Trial | None:
    """Return what `adjust` on `batches` does to the metric; what the model holds is put back.

    The metric is taken on the evaluation batches, where there are any, else on the training batches. None where
    it is not a number, as accuracy without labels, or where batches can be read only once. Accuracies differ by
    chance where as many samples are lost as gained, but for 1.96 standard errors (McNemar's test).

    Args:
        model, batches, eval_batches, metric, forward, size: see `audit`.
        frozen: see `adjust`.
        modes: in which the metric is taken, "eval" among them.
    """
    scored = batches if eval_batches is None else eval_batches
    if isinstance(batches, Iterator) or isinstance(scored, Iterator):
        return None

    def score(mode: str) -> Tensor | None:
        """Of each sample whether it is right, or the user's metric as a single number."""
        with unchanged(model, scored):
            Modes(model).set(mode)
            if metric is accuracy:
                return right_classes(model, scored, forward)
            value = value_of(metric, model, scored)
            return None if math.isnan(value) else torch.tensor([value], dtype=torch.double)

    before = {mode: found for mode in modes if (found := score(mode)) is not None}
    if len(before) < len(modes):
        return None
    with unchanged(model, batches, scored):
        adjust(model, batches, forward=forward, size=size, frozen=frozen)
        after = {mode: found for mode in modes if (found := score(mode)) is not None}
    is_accuracy = metric is accuracy
    unit = 100 if is_accuracy else 1
    scores = [
        {"model": name} | {f"{mode}_mode": unit * found.double().mean().item() for mode, found in of.items()}
        for name, of in (("before", before), ("after adjust", after))
    ]
    if is_accuracy:
        gained = int((after["eval"] & ~before["eval"]).sum())
        lost = int((before["eval"] & ~after["eval"]).sum())
        is_clear = abs(gained - lost) > CERTAIN * math.sqrt(gained + lost)
    else:
        is_clear = not torch.equal(before["eval"], after["eval"])
    name = "accuracy" if is_accuracy else getattr(metric, "__name__", "the metric")
    where = "on the training batches" if eval_batches is None else "on the evaluation batches"
    return Trial(f"{name} {where}", pd.DataFrame(scores), ".1f" if is_accuracy else ".4g", is_clear)
