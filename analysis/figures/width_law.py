"""Figure: through which of its terms Eq 12 lets width act on the shift of before_weight."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..select import (
    CannotAnswerError,
    example_strength,
    means,
    of_one_family,
    require,
    values_in,
    where,
)
from ..stats import mean_interval, paired_difference, per_seed
from ..tables import Study
from ..theory import ratio_before_weight
from . import style
from .curves import added
from .drawing import Drawing

TERMS = ["fan_in", "cos2", "input_corr", "moments"]
LABELS = {
    "all": ("Eq 12, all terms", style.DARK, "-"),
    "fan_in": ("only fan-in d moves", "#0072b2", "--"),
    "cos2": ("only cos² moves", "#d55e00", "--"),
    "input_corr": (r"only $\rho$ moves", "#009e73", "--"),
    "moments": (r"only c and v move", "#cc79a7", "--"),
}
TERM_COLOUR = {term: colour for term, (_, colour, _) in LABELS.items()} | {"d_cos2": style.DARK}
MEASURED = {
    "fan_in": "fan-in $d$",
    "cos2": r"$\cos^2$",
    "d_cos2": r"$d\,\cos^2$",
    "input_corr": r"correlation $\rho$",
}
NEEDED = ["fan_in", "cos2", "input_corr", "input_mean", "input_var", "noise_variance"]

READING = (
    "Left: the measured local shift, the exact law, and Eq 12 evaluated at the measured terms; the dashed "
    "lines let one term follow the width and hold all others at the narrowest network's values: whichever "
    "follows the solid line is what width acts through. Right: the terms themselves, relative to the "
    "narrowest network. Means over BN layers with noise of their own and over seeds."
)


def points_of(layers: pd.DataFrame) -> pd.DataFrame:
    """Mean terms, measured and predicted shift, and Eq 12 with a single term moving, per width.

    Returns:
        Columns width, quantity, mean, low, high, n. Quantities: local_ratio, local_ratio_exact, the terms,
        TERM_relative (over the narrowest network's mean), all (Eq 12 at the mean terms) and only_TERM (no
        interval).
    """
    layers = layers.assign(d_cos2=layers["fan_in"] * layers["cos2"])
    measured = means(layers, ["local_ratio", "local_ratio_exact", *NEEDED, "d_cos2"], ["width"])
    terms = measured.pivot(index="width", columns="quantity", values="mean")
    start = terms.iloc[0]
    rows = []
    for width, at in terms.iterrows():
        for moving in ["all", *TERMS]:
            rows.append({"width": width, "quantity": _name(moving), "mean": _eq12(at, start, moving)})
    drawn = measured[measured["quantity"].isin(list(MEASURED))]
    start = drawn["quantity"].map(terms.iloc[0])
    relative = drawn.assign(
        quantity=drawn["quantity"] + "_relative",
        **{end: drawn[end] / start for end in ("mean", "low", "high")},
    )
    return pd.concat([measured, relative, pd.DataFrame(rows)], ignore_index=True)


def _name(moving: str) -> str:
    return moving if moving == "all" else f"only_{moving}"


def _eq12(at: pd.Series, start: pd.Series, moving: str) -> float:
    """Eq 12 with the terms of `start`, but for the moving ones, which are those of `at`."""
    use = start.copy()
    columns = {"all": NEEDED, "moments": ["input_mean", "input_var"]}.get(moving, [moving])
    use[columns] = at[columns]
    return float(
        ratio_before_weight(
            use["input_mean"],
            use["input_var"],
            use["input_corr"],
            use["fan_in"] * use["cos2"],
            use["noise_variance"],
        )
    )


def draw(study: Study) -> Drawing:
    """Draw the figure from one network's finished members."""
    layers = require(
        where(study.layers, placement="before_weight"), "BN layer of a finished before_weight member"
    )
    if missing := [name for name in NEEDED if name not in layers]:
        raise CannotAnswerError(f"This study has no column {', '.join(missing)}.")
    noise, layers = of_one_family(layers)
    strength = example_strength(layers["strength"])
    layers = where(layers, strength=strength)
    layers = require(
        layers.dropna(subset=["local_ratio", *NEEDED]), "before_weight layer that Eq 12 speaks of"
    )
    widths = values_in(layers, "width")
    if len(widths) < 3:
        raise CannotAnswerError(
            f"This study has before_weight members of {len(widths)} widths; a law needs 3 (+sweep=width has 7)."
        )
    points = points_of(layers)
    label = style.STRENGTH_LABEL[noise]
    with style.figure_style():
        title = f"What does width act through? before_weight, {label} {strength:g}"
        figure, axes = style.panels(1, 2, title, study.name, width=4.6, height=3.1)
        shift, terms = axes[0]
        _draw_shift(shift, points)
        _draw_terms(terms, points)
        for panel in axes[0]:
            panel.set_xscale("log", base=2)
            style.ticks_at(panel.xaxis, widths)
            panel.set_xlabel("width (features)")
        style.legend_below(figure, _legend(), columns=4)
    drawn = points[~points["quantity"].isin([*NEEDED, "d_cos2"])]  # terms are drawn relative to the narrowest
    return Drawing(figure, drawn, READING, _finding(layers, points, label, strength))


def _draw_shift(panel: Axes, points: pd.DataFrame) -> None:
    measured = where(points, quantity="local_ratio")
    style.error_bars(panel, measured["width"], measured, fmt="o", color=style.GREY, ms=7)
    exact = where(points, quantity="local_ratio_exact")
    panel.plot(exact["width"], exact["mean"], "x", color=style.DARK, ms=6, zorder=5)
    for moving, (_, line_colour, line) in LABELS.items():
        curve = where(points, quantity=_name(moving))
        panel.plot(curve["width"], curve["mean"], ls=line, color=line_colour)
    panel.set(title="local shift", ylabel=style.RATIO_LABEL, ylim=(0, 1.05))


def _draw_terms(panel: Axes, points: pd.DataFrame) -> None:
    for name in MEASURED:
        scaled = where(points, quantity=f"{name}_relative")
        style.error_bars(panel, scaled["width"], scaled, fmt="o-", color=TERM_COLOUR[name], ms=4)
    panel.set(title="the terms, over those of the narrowest", ylabel="factor", yscale="log")


def _legend() -> list:
    return [
        style.key("shift, measured", color=style.GREY, marker="o", ms=7, ls=""),
        style.key("shift, exact law", color=style.DARK, marker="x", ms=6, ls=""),
        *(style.key(f"shift, {text}", color=colour, ls=line) for text, colour, line in LABELS.values()),
        *(style.key(text, color=TERM_COLOUR[name], marker="o", ms=4) for name, text in MEASURED.items()),
    ]


def _finding(layers: pd.DataFrame, points: pd.DataFrame, label: str, strength: float) -> str:
    widths = values_in(layers, "width")
    ends = [where(layers, width=width) for width in (widths[0], widths[-1])]
    local = [per_seed(end, "local_ratio", []) for end in ends]
    change = paired_difference(local[1], local[0])
    curves = points.pivot(index="width", columns="quantity", values="mean")
    predicted = curves["all"].iloc[-1] - curves["all"].iloc[0]
    names = dict(zip(TERMS, ["fan-in d", "cos²", "rho", "c and v"], strict=True))
    single = ", ".join(
        f"{name} {curves[_name(term)].iloc[-1] - curves['all'].iloc[0]:+.3f}" for term, name in names.items()
    )
    slope = {name: _slope(curves.index, curves[name]) for name in ("cos2", "d_cos2")}
    off = {
        name: (added(curves["local_ratio"]) / added(curves[name]) - 1).abs().max()
        for name in ("all", "local_ratio_exact")
    }
    return (
        f"At {label} {strength:g}, from width {widths[0]} to {widths[-1]}, the local ratio goes from "
        f"{mean_interval(local[0]).mean:.3f} to {mean_interval(local[1]).mean:.3f} (change {change}), Eq 12 says "
        f"{predicted:+.3f}; with one term moving: {single}. d cos² grows like width to the power "
        f"{slope['d_cos2']:.2f}, cos² like {slope['cos2']:.2f}; rho goes from "
        f"{curves['input_corr'].iloc[0]:.3f} to {curves['input_corr'].iloc[-1]:.3f}. Of what noise adds "
        f"(1/ratio - 1) Eq 12 is off by at most {off['all']:.0%}; the exact law, an identity, by "
        f"{off['local_ratio_exact']:.1%}, which is Monte Carlo error."
    )


def _slope(widths: pd.Index, values: pd.Series) -> float:
    """The exponent of a power law through the points, by least squares on logarithms."""
    logarithm = np.log(np.asarray(widths, dtype=float))
    return float(np.polyfit(logarithm, np.log(values.to_numpy(dtype=float)), 1)[0])
