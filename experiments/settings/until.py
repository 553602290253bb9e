"""The section `until` of the configuration: how far a study goes on by itself."""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.schema import CLAIMS
from experiments.checks import Rule, is_whole, null_or, one_of, ruled

LOOKS = (10, 20, 40)
"""Seeds at which verdicts are looked at, declared before any is trained."""

NAMES = Rule(
    f"a list of {CLAIMS[0]} to {CLAIMS[-1]}, such as [{CLAIMS[0]}]",
    lambda value: isinstance(value, list) and len(value) > 0 and set(value) <= set(CLAIMS),
)
MOST = Rule(
    f"a whole number from {LOOKS[0]} to {LOOKS[-1]}",
    lambda value: is_whole(value) and LOOKS[0] <= value <= LOOKS[-1],
)


@dataclass(frozen=True)
class Until:
    """The section `until` of a study that goes on until its claims are decided."""

    name: str = ruled(one_of("none", "decided"))
    claims: Sequence[str] | None = ruled(null_or(NAMES, "all that the study can test"))
    most: int = ruled(MOST)

    @property
    def looks(self) -> list[int]:
        """The numbers of seeds at which this study is looked at, at most three."""
        return [*(seeds for seeds in LOOKS if seeds < self.most), self.most]
