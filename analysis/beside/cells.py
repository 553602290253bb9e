"""A table of the page, and how its numbers are written."""

from dataclasses import dataclass

from analysis.stats import Interval


@dataclass(frozen=True)
class BesideTable:
    """A table of the page.

    Attributes:
        name: its anchor.
        question: its heading.
        columns: the headings of its columns.
        rows: its cells, as text.
        finding: what it shows, in a sentence.
        reading: how to read it.
    """

    name: str
    question: str
    columns: list[str]
    rows: list[list[str]]
    finding: str = ""
    reading: str = ""


def share_span(shares: list[float]) -> str:
    """Several shares as '20% to 71%', equal ones as one."""
    low, high = (f"{end:.0%}" for end in (min(shares), max(shares)))
    return low if low == high else f"{low} to {high}"


def share_text(share: float) -> str:
    """A share of what was lost; nan where nothing was."""
    return f"{share:.0%}" if share == share else "no loss"


def less(interval: Interval, value: float) -> Interval:
    """An interval less a number."""
    mean, low, high, n = interval
    return Interval(mean - value, low - value, high - value, n)


def with_half_width(interval: Interval, digits: int, sign: str = "") -> str:
    """A mean and half its interval, '0.43 ± 0.02'; the mean alone where one value gives no interval."""
    half = interval.high - interval.mean
    return f"{interval.mean:{sign}.{digits}f}" + (f" ± {half:.{digits}f}" if half == half else "")
