"""From what was predicted and what was estimated to a verdict.

A claim is cut into parts, each a number that the study estimates and a range that the claim predicts it to lie in.
One rule decides them all: a part is supported where the number lies inside the range for certain, refuted where it
lies outside for certain, and undecided else. Whatever the true number is, it is either inside or outside, so that
either word is wrong with the same small probability, also for numbers near the end of the range.

Holm's correction, in Shaffer's form because of the two hypotheses of a part exactly one is true, runs over the
parts of one claim: the probability that any of them is wrongly decided is at most 5 %. A verdict does not depend
on other claims; so of 14 claims up to 0.7 false decisions are expected. The simultaneous intervals are
Bonferroni's for the parts of the claim: together they cover with 95 %.

A study that is looked at several times, to go on until its claims are decided, decides at 5 % over the looks.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ..interventions import harm_or_help
from ..stats import LEVEL, Estimate, detectable_errors, holm

SIGNIFICANCE = 1 - LEVEL
MOST_SEEDS = 200  # beyond this many, no number of seeds is suggested


class Word(StrEnum):
    """What a verdict can be; a part is supported, refuted or undecided."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    MIXED = "mixed"  # parts supported, others refuted
    PARTLY = "partly"  # parts supported, the others undecided
    UNDECIDED = "undecided"  # tested, too few seeds
    DOES_NOT_ARISE = "does not arise"  # what the claim is about was looked for and is not there
    NOT_TESTABLE = "not testable"  # something is missing; stands beside no number


class CannotTestError(Exception):
    """The study cannot test this part of a claim.

    Attributes:
        missing: what is missing.
        command: what would supply it; empty where nothing would.
    """

    def __init__(self, missing: str, command: str = ""):
        super().__init__(missing)
        self.missing, self.command = missing, command


@dataclass(frozen=True)
class Contrast:
    """An estimate and how many networks it was made from."""

    estimate: Estimate
    members: int


@dataclass(frozen=True)
class Part:
    """A number and the range that the claim predicts it to lie in.

    Attributes:
        name: what the number is.
        contrast: the number, over seeds.
        unit: of the number; empty for ratios.
        low: lower end of the predicted range, -inf for none.
        high: its upper end, inf for none.
        control: whether it only guards against another reason for what the other parts show.
        effect: whether it is a harm or a benefit of size `low`, to be said in these words.
    """

    name: str
    contrast: Contrast
    unit: str
    low: float = -math.inf
    high: float = math.inf
    control: bool = False
    effect: bool = False

    @property
    def estimate(self) -> Estimate:
        """The number, over seeds."""
        return self.contrast.estimate

    @property
    def prediction(self) -> str:
        """The predicted range in words."""
        if self.high == math.inf:
            return f"above {self.low:g}"
        if self.low == -math.inf:
            return f"below {self.high:g}"
        return f"from {self.low:g} to {self.high:g}"

    @property
    def ends(self) -> list[float]:
        """The finite ends of the range."""
        return [end for end in (self.low, self.high) if math.isfinite(end)]

    @property
    def holds(self) -> bool:
        """Whether the estimate, taken for the true number, lies in the range."""
        return self.low < self.estimate.value < self.high

    @property
    def p_support(self) -> float:
        """P-value of 'the true number lies outside'."""
        p_values = [self.estimate.p_above(self.low)] * math.isfinite(self.low)
        p_values += [self.estimate.p_below(self.high)] * math.isfinite(self.high)
        return max(p_values)

    @property
    def p_refute(self) -> float:
        """P-value of 'the true number lies inside'; of two ends either may be passed."""
        p_values = [self.estimate.p_below(self.low)] * math.isfinite(self.low)
        p_values += [self.estimate.p_above(self.high)] * math.isfinite(self.high)
        return min(1.0, len(p_values) * min(p_values))


def more(name: str, contrast: Contrast, unit: str, margin: float) -> Part:
    """Predicts a number above `margin`, the least that matters."""
    return Part(name, contrast, unit, low=margin)


def less(name: str, contrast: Contrast, unit: str, margin: float) -> Part:
    """Predicts a number below `margin`."""
    return Part(name, contrast, unit, high=margin)


def about(name: str, contrast: Contrast, unit: str, target: float, margin: float) -> Part:
    """Predicts a number within `margin` of `target`."""
    return Part(name, contrast, unit, target - margin, target + margin)


@dataclass(frozen=True)
class Decision:
    """A part and what the study says of it.

    Attributes:
        part: the number and its prediction.
        word: supported, refuted or undecided.
        p_value: Holm's adjusted p-value of the hypothesis that was rejected, or of the one that came closer to it.
        low: lower end of the 95 % interval of this number alone.
        high: its upper end.
        low_simultaneous: lower end of the interval that covers together with those of the claim's parts with 95 %.
        high_simultaneous: its upper end.
        minimum_detectable: the distance from an end of the range at which such a study decides 4 times in 5.
        least_seeds: with fewer this test cannot decide anything, whatever the numbers.
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
    least_seeds: int
    seeds_needed: int | None = None

    @property
    def effect(self) -> str:
        """The number with its own 95 % interval and unit, for example '+0.517 [+0.504, +0.531] points'."""
        value, low, high = map(signed, (self.part.estimate.value, self.low, self.high))
        return f"{value} [{low}, {high}]{' ' * bool(self.part.unit)}{self.part.unit}"

    @property
    def answer(self) -> str:
        """The word; of an effect also what it does: harms, helps, or neither by as much as matters."""
        if not self.part.effect or self.word is Word.UNDECIDED:
            return str(self.word)
        if self.word is Word.SUPPORTED:
            return f"{self.word}, it harms"
        does = harm_or_help(self.low_simultaneous, self.high_simultaneous)
        words = {"helps": "it helps", "neither": "it neither harms nor helps"}
        return f"{self.word}, {words.get(does, 'it does not harm')}"


def signed(number: float) -> str:
    """A number in three digits, with its sign; what rounding left of 0 is 0."""
    return f"{number if abs(number) > 1e-9 else 0:+#.3g}".replace("inf", "∞")


def decide(parts: Sequence[Part], significance: float = SIGNIFICANCE) -> list[Decision]:
    """Decide the parts of one claim together: any is wrongly decided in at most this share of studies."""
    each = significance / max(len(parts), 1)
    decisions = []
    for part, (word, p_value) in zip(parts, outcomes(parts, significance), strict=True):
        estimate = part.estimate
        least = estimate.least_seeds(each)
        decisions.append(
            Decision(
                *(part, word, p_value, *estimate.interval(), *estimate.interval(1 - each)),
                *(estimate.detectable(each), least),
                _seeds_needed(part, each, least) if word is Word.UNDECIDED else None,
            )
        )
    return decisions


def outcomes(parts: Sequence[Part], significance: float = SIGNIFICANCE) -> list[tuple[Word, float]]:
    """What the study says of each part, and the corrected p-value of the hypothesis that was or came closest."""
    p_values = holm([p for part in parts for p in (part.p_support, part.p_refute)], most_true=len(parts))
    found = []
    for support, refute in p_values.reshape(-1, 2).tolist():
        if min(support, refute) < significance:
            found.append((Word.SUPPORTED if support < refute else Word.REFUTED, min(support, refute)))
        else:
            found.append((Word.UNDECIDED, min(support, refute)))
    return found


def combine(decisions: Sequence[Decision], obstacles: Sequence[CannotTestError] = ()) -> Word:
    """The verdict on a claim, given why the study could not estimate its other parts.

    Controls count against a claim, never for it. Without any number it is not testable; where all that is missing
    is something that no further training would supply, the claim does not arise.
    """
    words = {decision.word for decision in decisions if not decision.part.control}
    refuted = Word.REFUTED in {decision.word for decision in decisions}
    if not decisions:
        can_be_supplied = not obstacles or any(obstacle.command for obstacle in obstacles)
        return Word.NOT_TESTABLE if can_be_supplied else Word.DOES_NOT_ARISE
    if Word.SUPPORTED in words:
        if refuted:
            return Word.MIXED
        everything = not obstacles and {decision.word for decision in decisions} == {Word.SUPPORTED}
        return Word.SUPPORTED if everything else Word.PARTLY
    return Word.REFUTED if Word.REFUTED in words else Word.UNDECIDED


def _seeds_needed(part: Part, significance: float, least: int) -> int | None:
    """Seeds at which the nearest end would be told from the estimate, if it stayed and seeds spread as they do."""
    estimate = part.estimate
    spread = estimate.error * estimate.n**0.5
    distance = min(abs(estimate.value - end) for end in part.ends)
    candidates = range(max(estimate.n + 1, least), MOST_SEEDS + 1)

    def enough(n: int) -> bool:
        return spread / n**0.5 * detectable_errors(n - 1, significance) <= distance

    place = bisect_left(candidates, True, key=enough)
    return candidates[place] if place < len(candidates) else None
