"""When an audit raises an alarm: beyond doubt, and beyond what matters."""

import math

import pandas as pd

from ..theory import shift_magnitude
from .moments import Offset, Ratio

FALSE_ALARM = 0.01  # chance that an audit of a sound network raises any alarm
TOLERANCE = 0.02  # a variance off by less than 2 % is no alarm even where it is certain
MEAN_TOLERANCE = 0.1  # nor is a mean off by less than 0.1 standard deviations
CAUSES = ("noise", "branch", "lag", "upstream", "data")
# Behind other noisy layers, switching all noise off can leave a variance as it was while a layer's own adds to it.
_ALSO = {"noise": ("local_ratio",)}
EVIDENCE = {cause: (f"{cause}_ratio", f"{cause}_mean", *_ALSO.get(cause, ())) for cause in CAUSES}
BY_CHANNEL = ("noise", "lag", "data")  # tested channel by channel too; upstream follows from these
TROUBLES = ("batches", "steps", "few")  # what no statistics mend, see `batch_trouble`
TESTS = sum(map(len, EVIDENCE.values())) + len(BY_CHANNEL) + len(TROUBLES)  # per layer


def is_alarm(estimate: Ratio | Offset, level: float) -> bool:
    """Whether an estimate is off by more than the tolerance, beyond doubt at this level."""
    low, high = estimate.interval(level)
    if math.isnan(low):
        return False
    if isinstance(estimate, Offset):
        return low > MEAN_TOLERANCE
    return (high < 1 or low > 1) and shift_magnitude(estimate.value) > 1 + TOLERANCE


def is_adjusting_advised(table: pd.DataFrame) -> bool:
    """Whether a layer of the table has an alarm that other stored statistics would end."""
    causes = {cause for alarm in table["alarm"] for cause in alarm.split(",")}
    if (
        "noise" in causes or "batches" in causes
    ):  # of batches that are no random ones nothing can be estimated
        return "noise" in causes
    # What a trouble of the batches does to later layers, other statistics do not end.
    return bool("lag" in causes or (causes & {"branch", "upstream"} and not causes & set(TROUBLES)))
