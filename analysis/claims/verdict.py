"""From what was predicted and what was estimated to a verdict, corrected for how much was looked at.

A claim is cut into parts, each a number that the study estimates and a prediction about it. Every prediction has
two hypotheses that data can reject: one whose rejection supports it and one whose rejection refutes it. Holm's
correction, in Shaffer's form for hypotheses that cannot all be true, runs over all of them, for all claims of the
study together: the probability that any part is wrongly decided is at most 5 %. The simultaneous intervals are
Bonferroni's for the same number of parts: all of them cover at once with 95 %.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from analysis.stats import LEVEL, Estimate, detectable_errors, holm

SIGNIFICANCE = 1 - LEVEL
MOST_SEEDS = 200  # beyond this many, no number of seeds is suggested


class Word(StrEnum):
    """What a verdict can be; a single number is undecided where a claim is not testable."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    MIXED = "mixed"
    NOT_TESTABLE = "not testable with this study"
    UNDECIDED = "undecided"


class CannotTestError(Exception):
    """The study cannot test this claim.

    Attributes:
        missing: what is missing.
        command: what would supply it.
        parts: what of the claim could be estimated all the same.
    """

    def __init__(self, missing: str, command: str, parts: Sequence["Part"] = ()):
        super().__init__(missing)
        self.missing, self.command, self.parts = missing, command, list(parts)


@dataclass(frozen=True)
class Contrast:
    """An estimate and how many networks it was made from."""

    estimate: Estimate
    members: int

    def __neg__(self) -> "Contrast":
        """The same with first and second swapped."""
        return replace(self, estimate=replace(self.estimate, value=-self.estimate.value))


@dataclass(frozen=True)
class Part:
    """A number and what the claim predicts of it.

    Attributes:
        name: what the number is.
        contrast: the number, over seeds.
        unit: of the number; empty for ratios.
        prediction: the prediction in words.
        p_support: p-value whose smallness supports it.
        p_refute: p-value whose smallness refutes it.
        distance: from the estimate to the bound whose exclusion would decide it: what a study must be able to see.
        control: whether it only guards against another reason for what the other parts show.
    """

    name: str
    contrast: Contrast
    unit: str
    prediction: str
    p_support: float
    p_refute: float
    distance: float
    control: bool = False


def more(name: str, contrast: Contrast, unit: str, margin: float) -> Part:
    """Predicts a number above 0. Refuted where it lies below `margin`: none, too little, or the reverse."""
    estimate = contrast.estimate
    prediction = f"above 0, and not below {margin:g}"
    distance = max(estimate.value, margin - estimate.value)
    return Part(name, contrast, unit, prediction, estimate.p_above(0), estimate.p_below(margin), distance)


def less(name: str, contrast: Contrast, unit: str, bound: float) -> Part:
    """Predicts a number below `bound`."""
    estimate = contrast.estimate
    distance = abs(estimate.value - bound)
    return Part(
        name, contrast, unit, f"below {bound:g}", estimate.p_below(bound), estimate.p_above(bound), distance
    )


def about(name: str, contrast: Contrast, unit: str, target: float, margin: float) -> Part:
    """Predicts a number within `margin` of `target` (two one-sided tests)."""
    estimate, low, high = contrast.estimate, target - margin, target + margin
    inside = max(estimate.p_above(low), estimate.p_below(high))
    outside = min(1.0, 2 * min(estimate.p_below(low), estimate.p_above(high)))
    distance = abs(abs(estimate.value - target) - margin)
    return Part(name, contrast, unit, f"within {margin:g} of {target:g}", inside, outside, distance)


def differs(name: str, contrast: Contrast, unit: str, margin: float) -> Part:
    """Predicts a number that is not 0, in either direction. Refuted where it lies within `margin` of 0."""
    estimate = contrast.estimate
    either = min(1.0, 2 * min(estimate.p_below(0), estimate.p_above(0)))
    inside = max(estimate.p_above(-margin), estimate.p_below(margin))
    distance = max(abs(estimate.value), margin - abs(estimate.value))
    return Part(name, contrast, unit, f"not 0, by {margin:g} at least", either, inside, distance)


@dataclass(frozen=True)
class Decision:
    """A part and what the study says of it.

    Attributes:
        part: the number and its prediction.
        word: supported, refuted or undecided.
        p_value: Holm's adjusted p-value of the hypothesis that was rejected, or of the one that came closer to it.
        low: lower end of the 95 % interval of this number alone.
        high: its upper end.
        low_simultaneous: lower end of the interval that covers together with those of all parts with 95 %.
        high_simultaneous: its upper end.
        minimum_detectable: the effect that such a study finds 4 times in 5, at the corrected significance.
        seeds_needed: seeds that would decide it, at this effect and spread; None where decided, or beyond 200.
    """

    part: Part
    word: Word
    p_value: float
    low: float
    high: float
    low_simultaneous: float
    high_simultaneous: float
    minimum_detectable: float
    seeds_needed: int | None = None


def outcomes(parts: Sequence[Part]) -> list[tuple[Word, float]]:
    """What the study says of each part, and the corrected p-value of the hypothesis that was or came closest."""
    # A number cannot lie on both sides of a prediction: of its two hypotheses one at most is true.
    p_values = holm([p for part in parts for p in (part.p_support, part.p_refute)], most_true=len(parts))
    found = []
    for support, refute in p_values.reshape(-1, 2).tolist():
        if refute < SIGNIFICANCE:  # first, for a number above 0 that is too small to matter passes both
            found.append((Word.REFUTED, refute))
        elif support < SIGNIFICANCE:
            found.append((Word.SUPPORTED, support))
        else:
            found.append((Word.UNDECIDED, min(support, refute)))
    return found


def decide(parts: Sequence[Part]) -> list[Decision]:
    """Decide all parts of all claims of one study together."""
    each = SIGNIFICANCE / max(len(parts), 1)
    decisions = []
    for part, (word, p_value) in zip(parts, outcomes(parts), strict=True):
        estimate = part.contrast.estimate
        decisions.append(
            Decision(
                *(part, word, p_value, *estimate.interval(), *estimate.interval(1 - each)),
                estimate.detectable(each),
                _seeds_needed(part, each) if word is Word.UNDECIDED else None,
            )
        )
    return decisions


def combine(decisions: Sequence[Decision]) -> Word:
    """A claim holds if all of its parts and controls do, and falls with its parts; between lies mixed."""
    words = {decision.word for decision in decisions if not decision.part.control}
    if {decision.word for decision in decisions} == {Word.SUPPORTED}:
        return Word.SUPPORTED
    if Word.SUPPORTED in words:
        return Word.MIXED
    return Word.REFUTED if Word.REFUTED in words else Word.NOT_TESTABLE


def _seeds_needed(part: Part, significance: float) -> int | None:
    """Seeds at which this distance would be detectable, if the estimate stayed and seeds spread as they do."""
    spread = part.contrast.estimate.error * part.contrast.estimate.n**0.5
    candidates = range(part.contrast.estimate.n + 1, MOST_SEEDS + 1)

    def enough(n: int) -> bool:
        return spread / n**0.5 * detectable_errors(n - 1, significance) <= part.distance

    place = bisect_left(candidates, True, key=enough)
    return candidates[place] if place < len(candidates) else None
