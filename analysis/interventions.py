"""What interventions cost or win back in each noisy network, in points of test error.

`experiments.measuring.interventions` says what was done to it. The four cells of a repair, (R, D) with R = r
or 1 and D = d or 0, give the effects of the two factors:

    means        average of (r, d) - (r, 0) and (1, d) - (1, 0): what wrong stored means cost
    variances    average of (r, d) - (1, d) and (r, 0) - (1, 0): what wrong stored variances cost
    interaction  (r, d) - (r, 0) - [(1, d) - (1, 0)]
    total        (r, d) - (1, 0) = means + variances: what the shift costs
    stale        error as trained - (r, d): what moving averages over moving weights cost besides
    stored       on the training set, error in eval mode - that after BN adjustment: what stored statistics cost
    removal      error as trained - that after BN adjustment

Each of them has a `_net` form: less the same of the noise-free twin, which has the network, recipe and seed of the
noisy one. Against the twin's own error are taken

    gap          error as trained - the twin's: what noise costs in all
    twin_KEY     the twin with the noisy network's coarse shift - the twin with both right
    coarse_KEY   the noisy network with its own coarse shift - itself with both right

where KEY is `variances`, `shift`, `means` or `random`.
"""

import pandas as pd

from .schema import IDENTITY, NETWORK, RECIPE
from .stats import LEVEL

TOGETHER = 1 - (1 - LEVEL) / 2  # level of each of two intervals that cover together with 95 %
MATTERS = 0.2  # percentage points of test error that matter: the least gain that the paper speaks of
COARSE = ("variances", "shift", "means", "random")
OWN = ("means", "variances", "interaction", "total", "stale", "stored", "removal")  # also less the twin's
EFFECTS = (
    *(f"{effect}{suffix}" for effect in OWN for suffix in ("", "_net")),
    "gap",
    *(f"{whose}_{key}" for whose in ("twin", "coarse") for key in COARSE),
)


def effects(members: pd.DataFrame) -> pd.DataFrame:
    """Every effect in every noisy member.

    Args:
        members: finished members with the columns of members.csv. What a study has not measured may be lacking.

    Returns:
        A row per noisy member: the identity and recipe columns that `members` has, then `EFFECTS` in points. An
        effect is NaN where the member, or the twin that it takes, lacks a number that it is made of.
    """
    table = members.reset_index(drop=True)
    own = _own(table)
    twin_of = [*NETWORK, "width", *(name for name in RECIPE if name in table), "seed"]
    of_twin = pd.concat(
        [table[twin_of], own, _errors(table)[["test_error", "test_error_both_right"]]], axis=1
    )
    of_twin = of_twin[table["noise"] == "none"]
    noisy = table[table["noise"] != "none"]
    twin = noisy[twin_of].merge(of_twin, how="left", on=twin_of, validate="m:1").set_index(noisy.index)
    own, errors = own.loc[noisy.index], _errors(noisy)
    found = {"gap": errors["test_error"] - twin["test_error"]}
    for effect in OWN:
        found |= {effect: own[effect], f"{effect}_net": own[effect] - twin[effect]}
    for key in COARSE:
        found[f"twin_{key}"] = errors[f"test_error_twin_{key}"] - twin["test_error_both_right"]
        found[f"coarse_{key}"] = errors[f"test_error_coarse_{key}"] - errors["test_error_both_right"]
    identity = noisy[[name for name in (*IDENTITY, *RECIPE) if name in noisy]]
    return identity.join(pd.DataFrame(found)[list(EFFECTS)]).reset_index(drop=True)


def harm_or_help(low: float, high: float) -> str:
    """What an effect does to the error by its interval: "harms", "helps", "neither", or "undecided".

    It harms where the interval lies above `MATTERS` points, helps where it lies below -`MATTERS`, and does neither
    where it lies between. Means and variances are decided together: give it the ends of intervals of the level
    `TOGETHER`.
    """
    if low > MATTERS:
        return "harms"
    if high < -MATTERS:
        return "helps"
    return "neither" if low > -MATTERS and high < MATTERS else "undecided"


def _own(members: pd.DataFrame) -> pd.DataFrame:
    """The effects that a member has by itself."""
    error = _errors(members)
    rd, r0, od, o0 = (
        error[f"test_error_{cell}"] for cell in ("frozen", "means_right", "variances_right", "both_right")
    )
    return pd.DataFrame(
        {
            "means": ((rd - r0) + (od - o0)) / 2,
            "variances": ((rd - od) + (r0 - o0)) / 2,
            "interaction": (rd - r0) - (od - o0),
            "total": rd - o0,
            "stale": error["test_error"] - rd,
            "stored": error["train_error_eval_mode"] - error["train_error_adjusted"],
            "removal": error["test_error"] - error["test_error_adjusted"],
        }
    )


def _errors(members: pd.DataFrame) -> pd.DataFrame:
    """The errors that effects are made of; a column that the table lacks is empty."""
    cells = ("frozen", "means_right", "variances_right", "both_right", "adjusted")
    names = ["test_error", *(f"test_error_{cell}" for cell in cells)]
    names += [f"test_error_{whose}_{key}" for whose in ("twin", "coarse") for key in COARSE]
    return members.reindex(columns=[*names, "train_error_eval_mode", "train_error_adjusted"]).astype(float)
