"""Predictions on whether shift and error belong together, and on what of the shift is the cause: C9.

The stronger the noise, the more it shifts and the more it costs, for whatever reason: over all networks the two go
together by dose alone. So they are compared at equal dose, between placements and between seeds, which is
association; beside it stands what interventions on the shift do to the error.
"""

from itertools import permutations

import numpy as np
import pandas as pd
from pandas.api.typing import DataFrameGroupBy

from ..select import KIND
from ..stats import PermutedEstimate, holm
from .evidence import MAIN_STUDY, CannotTestError, Evidence
from .shift import COST, LITTLE
from .verdict import SIGNIFICANCE, Contrast, Part, more

CONCORDANCE = 0.1  # a tau below this is none
CELL = ["placement", "noise", "noise_variance"]
ALL_EXCHANGES = (
    7  # seeds up to which all their exchanges are looked at, 7! = 5040; of more, as many are drawn
)


def placements_shift_and_err_alike(evidence: Evidence) -> list[Part]:
    """C9: of two placements of the same noise, does the one that shifts more err more?

    Kendall's tau: the share of pairs that are ordered alike minus that of pairs ordered contrarily.
    """
    noisy = _shifting(evidence)
    lacking = CannotTestError("no two placements of the same noise in one network", MAIN_STUDY)
    contrast = evidence.of_each(noisy, _concordance, [*evidence.network, "noise", "strength"], lacking)
    return [more("association: tau of shift and test error between placements", contrast, "", CONCORDANCE)]


def _concordance(groups: DataFrameGroupBy) -> pd.Series:
    """Mean over pairs of placements of the sign of (difference in shift) x (difference in error)."""
    columns = {"group": groups.ngroup(), "place": groups.cumcount(), "shift": groups.obj["shift"]}
    members = pd.DataFrame(columns | {"error": groups.obj["test_error"]})
    pairs = members.merge(members, on="group", suffixes=("", "_other"))
    pairs = pairs[pairs["place"] < pairs["place_other"]]
    product = (pairs["shift"] - pairs["shift_other"]) * (pairs["error"] - pairs["error_other"])
    alike = pd.Series(np.sign(product), pairs.index)
    return alike.groupby(pairs["group"]).mean().reindex(range(groups.ngroups))


def seeds_shift_and_err_alike(evidence: Evidence) -> list[Part]:
    """C9: of two seeds of the same network and noise, does the one that shifts more err more?

    The correlation of ranks within cells of equal network, family, noise variance and placement, centred in each
    cell. Under the null hypothesis the seeds of a cell can be exchanged; they are, in all cells alike, for the
    cells of one seed are no independent trials.
    """
    noisy = _shifting(evidence)
    network = [*dict.fromkeys(["data", "model", *evidence.network])]
    cells = [
        (cell.set_index("seed")["shift"].rank(), cell.set_index("seed")["test_error"].rank())
        for _, cell in noisy.groupby([*network, *CELL], dropna=False)
    ]
    seeds = sorted(set.intersection(*(set(shift.index) for shift, _ in cells)))
    if len(seeds) < 3:
        raise CannotTestError("fewer than three seeds of the same network and noise", MAIN_STUDY)
    shifts, errors = (np.array([cell[which].loc[seeds] for cell in cells]) for which in (0, 1))
    shifts, errors = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (shifts, errors))
    size = np.sqrt((shifts**2).sum() * (errors**2).sum())
    if size == 0:
        raise CannotTestError("all seeds of a network and noise shift or err alike", MAIN_STUDY)
    products = shifts.T @ errors / size  # of the shifts of one seed and the errors of another
    exchanged = tuple(products[np.arange(len(seeds)), _exchanges(len(seeds))].sum(axis=1).tolist())
    error = float(np.std(exchanged))
    estimate = PermutedEstimate(float(np.trace(products)), error, 1e6, len(seeds), exchanged)
    name = "association: rank correlation of shift and test error between seeds of equal noise"
    return [more(name, Contrast(estimate, len(noisy)), "", 0)]


def _exchanges(n: int) -> np.ndarray:
    """Orders of n seeds, the given one first: all of them, or for many seeds 5040 drawn ones."""
    if n <= ALL_EXCHANGES:
        return np.array(list(permutations(range(n))))
    random = np.random.default_rng(0)
    return np.array([np.arange(n), *(random.permutation(n) for _ in range(5039))])


def shift_harms(evidence: Evidence) -> list[Part]:
    """C9, interventions: what wrong stored means and wrong stored variances cost, for dropout at either placement.

    Effects of the 2x2 repair (`analysis.interventions`), gross, pooled over the settings (networks and rates)
    whose total shift cost is told from 0, all of them taken together (Holm). Elsewhere is nothing to explain.
    """
    parts, explained = [], False
    for placement in ("before_bn", "before_weight"):
        members = evidence.dropout(placement).dropna(subset=["total"])
        settings = [group for _, group in members.groupby([*evidence.network, *KIND], dropna=False)]
        totals = [evidence.mean(group, "total").estimate for group in settings]
        p_values = holm([min(1.0, 2 * min(total.p_above(0), total.p_below(0))) for total in totals])
        chosen = [group for group, p in zip(settings, p_values, strict=True) if p < SIGNIFICANCE]
        explained |= bool(settings)
        for effect in ("means", "variances") if chosen else ():
            contrast = evidence.mean(pd.concat(chosen), effect)
            name = f"intervention: what wrong stored {effect} cost, {placement}, {len(chosen)} settings"
            parts.append(Part(name, contrast, "points", low=COST, effect=True))
    if not explained:
        raise CannotTestError("no interventions (measure.interventions=true)", MAIN_STUDY)
    if not parts:
        raise CannotTestError("nothing to explain: the shift's total cost is not told from 0 in any setting")
    return parts


def _shifting(evidence: Evidence) -> pd.DataFrame:
    """Noisy members; CannotTestError where no kind of noise shifts."""
    members = evidence.where(norm="batch").dropna(subset=["shift", "test_error"])
    noisy = members[members["noise"] != "none"]
    shifts = noisy.groupby([*evidence.network, *KIND], dropna=False)["shift"].mean()
    if not shifts.abs().max() > LITTLE:
        raise CannotTestError(f"no kind of noise that shifts by {LITTLE:g} or more", MAIN_STUDY)
    return noisy
