"""What an experiment finds: numbers, and the verdict that follows from them."""

from dataclasses import dataclass
from typing import TypeAlias

VERDICTS = CONFIRMED, REFUTED, NEEDS_CARE = "confirmed", "refuted", "needs care"
FAILED = "failed"  # no verdict: the experiment itself raised an error

Measured: TypeAlias = dict[str, object]  # quantity, its unit in its name -> number, word, or list of these

NOT_KNOWN = "This torch behaves otherwise than any did when the experiment was written; trust the numbers."


@dataclass(frozen=True)
class Finding:
    """The verdict on a statement, one line that explains it, and the numbers from which both follow."""

    verdict: str
    explanation: str
    measured: Measured


def judge(
    measured: Measured,
    *,
    holds: bool,
    misleads: bool = False,
    confirmed: str = NOT_KNOWN,
    refuted: str = NOT_KNOWN,
    needs_care: str = NOT_KNOWN,
) -> Finding:
    """Return the finding that follows from what was measured.

    `holds`: the statement, taken as it stands, is true. `misleads`: what most readers conclude from it is not.
    True and not misleading is "confirmed", true but misleading "needs care", untrue "refuted". The texts explain
    the verdicts that are possible as far as known; only the one of the verdict reached is used.
    """
    if not holds:
        return Finding(REFUTED, refuted, measured)
    if misleads:
        return Finding(NEEDS_CARE, needs_care, measured)
    return Finding(CONFIRMED, confirmed, measured)


def readable(measured: Measured) -> str:
    """Return measurements on one line as people read them: "zeroed share = 0.3; p = [0.1, 0.3]"."""
    return "; ".join(
        f"{quantity.replace('_', ' ')} = {_shown(value)}" for quantity, value in measured.items()
    )


def _shown(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
