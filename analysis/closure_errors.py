"""How far the closure's predictions of the cumulative shift are from what was measured.

The target is the shift behind one large batch, `shift_ratio_population`. The same predictions can be held against
the shift behind frozen statistics and against the paper's, which have factors of finite batches and of moving
weights that no theory of noise knows. Judged are BN layers behind the first, where it is exact.

    error of a layer   |log(predicted / measured)|, where |log measured| > 0.1: elsewhere any formula holds
    skill              1 - sum of squared errors / the same of the local law: 1 is perfect, 0 is no better than it
    cascade            what a ratio is beyond the local law; its sign is judged where |log cascade| > 0.02
    mean shift         relative error where the measured one is above 0.05
"""

from collections.abc import Sequence

import pandas as pd

from .schema import MEMBER_KEY

TARGETS = {"population": "shift_ratio_population", "frozen": "shift_ratio_frozen", "moving": "shift_ratio"}
SHIFTS, CASCADES, MEANS_SHIFT = 0.1, 0.02, 0.05


def closure_errors(layers: pd.DataFrame, target: str = "population") -> pd.DataFrame:
    """Return the rows of layers.csv that are behind the first and have a prediction, with logarithms of ratios.

    Added are `log_ratio` (measured; `target` is one of TARGETS), `error` and `error_local`, predicted - measured
    by the closure and by the local law alone, and `cascade` and `cascade_predicted`.
    """
    rows = layers[(layers["layer_index"] > 1) & layers["shift_ratio_predicted"].notna()]
    of_own_noise = rows["local_ratio_exact"].fillna(1.0)  # a layer without any has none to show
    measured, predicted, local = (
        ratio.astype(float).transform("log")
        for ratio in (rows[TARGETS[target]], rows["shift_ratio_predicted"], of_own_noise)
    )
    return rows.assign(
        log_ratio=measured,
        error=predicted - measured,
        error_local=local - measured,
        cascade=measured - local,
        cascade_predicted=predicted - local,
    )


def quality(rows: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Sum up `closure_errors`, in a row for each value of the columns `by`, or in one row.

    networks, layers        how many are judged
    median, median_local    error in percent, median over a network's layers, then over networks; of the local law
    ninth_decile            error in percent that 9 of 10 layers stay below
    bias                    mean of log(predicted / measured) in percent
    skill                   over the local law
    sign, signs             share of cascades that go the predicted way, mean of both ways; of how many
    mean_shift_error        relative error of the mean shift in percent, median over layers
    mean_shift_slope        least-squares slope of predicted against measured mean shift, through 0
    mean_shifts             layers behind these two

    A number without any layer behind it is NaN.
    """
    if not by:
        return pd.DataFrame([_quality(rows)])
    return pd.DataFrame(
        [
            dict(zip(by, key if isinstance(key, tuple) else [key], strict=True)) | _quality(group)
            for key, group in rows.groupby(list(by) if len(by) > 1 else by[0], dropna=False)
        ]
    )


def _quality(rows: pd.DataFrame) -> dict[str, float]:
    judged = rows[rows["log_ratio"].abs() > SHIFTS]
    judged = judged.assign(closure=100 * judged["error"].abs(), local=100 * judged["error_local"].abs())
    networks = judged.groupby([name for name in MEMBER_KEY if name in judged], dropna=False)
    squares = judged[["error", "error_local"]].pow(2).sum()
    clear = rows[rows["cascade"].abs() > CASCADES]
    is_up = clear["cascade"] > 0
    is_right = is_up == (clear["cascade_predicted"] > 0)
    moved = rows[rows["mean_shift_population"] > MEANS_SHIFT]
    measured, predicted = moved["mean_shift_population"], moved["mean_shift_predicted"]
    return {
        "networks": networks.ngroups,
        "layers": len(judged),
        "median": float(networks["closure"].median().median()),
        "median_local": float(networks["local"].median().median()),
        "ninth_decile": float(judged["closure"].quantile(0.9)),
        "bias": float(100 * judged["error"].mean()),
        "skill": float(1 - squares["error"] / squares["error_local"]) if len(judged) else float("nan"),
        "sign": float(is_right.groupby(is_up).mean().mean()),
        "signs": len(clear),
        "mean_shift_error": float(100 * (predicted / measured - 1).abs().median()),
        "mean_shift_slope": _slope(measured, predicted),
        "mean_shifts": len(moved),
    }


def _slope(measured: pd.Series, predicted: pd.Series) -> float:
    return float((predicted * measured).sum() / measured.pow(2).sum()) if len(measured) else float("nan")
