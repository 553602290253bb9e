"""Figure 2: what the families of noise share at equal noise variance, and what they do not."""

from itertools import combinations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..select import (
    behind_noise,
    is_same_variance,
    means,
    noises_in,
    placements_in,
    require,
    values_in,
    where,
)
from ..stats import over_seeds, paired_difference, per_seed
from ..tables import Study
from ..theory import ratio_nominal
from ..theory.noises import DROPOUT, FAMILIES
from . import style
from .curves import added, drawn_at, ratio_curve
from .drawing import Drawing

AGREE = 0.02  # shifts of two families that lie no further apart count as equal
POINT = ["placement", "width", "noise", "strength", "noise_variance"]  # what a mark is a mean of
ROWS = [  # title, quantity, x axis
    ("local shift at its gain: an identity", "local_ratio", "effective"),
    ("local shift", "local_ratio", "noise_variance"),
    ("cumulative shift", "shift_ratio", "noise_variance"),
]
EXACT, NOMINAL = "local_ratio_exact", "nominal"  # quantities that are curves
AXIS = {
    "effective": "$\\sigma^2$ times the layer's noise gain g",
    "noise_variance": "noise variance $\\sigma^2$",
}
OPEN = {"ms": 8, "mfc": "none", "zorder": 4}
LOOK = {  # families that agree lie on top of each other: dropout's dot inside the open marks of the others
    name: {"marker": family.marker, **({"ms": 4, "zorder": 5} if family is DROPOUT else OPEN)}
    for name, family in FAMILIES.items()
}
THEORY_LINE = {"color": style.DARK, "lw": 1, "zorder": 2}

READING = (
    "A layer's local shift is 1 / (1 + g σ²), where the noise gain g depends on the moments of the noise's "
    "input and on the weights behind it, but not on the noise. Top: every BN layer behind noise, of every "
    "width, against g σ², with g from the moments measured in that very network (exact law). That is an "
    "identity: the marks lie on the one curve whatever was trained, up to Monte Carlo error, which checks "
    "the code. Middle: mean over those layers, a mark for each width (the number beside it), against σ² "
    "alone. Noise variance is the axis of the local shift as far as families agree here; they part where "
    "training under their noise has led to other moments (lines: exact law at each family's own moments). "
    "Bottom: the cumulative shift, on which σ² has no such hold: behind a ReLU the law of the noise counts "
    "too, and families differ even where their local shifts agree. Marks are means over seeds with 95 % intervals."
)


def points_of(layers: pd.DataFrame) -> pd.DataFrame:
    """What is measured of what is drawn, as means with intervals over seeds.

    Rows with `effective` (g sigma^2) are single BN layers; in those without, `layer_index` is 0 and the ratio
    is the mean over layers.
    """
    of_layers = over_seeds(layers, "local_ratio", [*POINT, "layer_index"]).assign(quantity="local_ratio")
    exact = over_seeds(layers, "local_ratio_exact", [*POINT, "layer_index"])
    exact = exact.assign(effective=added(exact["mean"]))[[*POINT, "layer_index", "effective"]]
    of_means = means(layers, ["local_ratio", "shift_ratio", "local_ratio_exact"], POINT).assign(layer_index=0)
    return pd.concat([of_layers.merge(exact, on=[*POINT, "layer_index"]), of_means], ignore_index=True)


def _theory_of(points: pd.DataFrame) -> pd.DataFrame:
    """The exact law at the moments of each placement, width and family, as a curve, and the nominal one."""
    exact = where(points, quantity=EXACT)
    by = ["placement", "width", "noise"]
    curves = []
    for names, here in exact.groupby(by):
        variances = drawn_at(here["noise_variance"], logarithmic=True)
        columns = {"noise_variance": variances, "mean": ratio_curve(here, variances), "quantity": EXACT}
        curves.append(pd.DataFrame({**columns, **dict(zip(by, names, strict=True))}))
    variances = np.geomspace(*_x_range(points), num=200)
    nominal = pd.DataFrame(
        {"noise_variance": variances, "mean": ratio_nominal(variances), "quantity": NOMINAL}
    )
    return pd.concat([*curves, nominal])


def draw(study: Study) -> Drawing:
    """Draw the figure from one network's finished members."""
    layers = study.layers
    layers = behind_noise(layers[layers["placement"].isin(["before_bn", "before_weight"])])
    measured = require(
        points_of(require(layers, "BN layer behind noise")), "measured and predicted local shift"
    )
    points = measured[measured["quantity"] != EXACT]
    points = pd.concat([points, _theory_of(measured)], ignore_index=True)
    placements = placements_in(points)
    with style.figure_style():
        title = "Variance shift against noise variance: what families share"
        shape = {"width": 4.4, "height": 2.6, "sharex": True, "sharey": True}
        figure, axes = style.panels(len(ROWS), len(placements), title, study.name, **shape)
        axes[0, 0].set(xscale="log", xlim=_x_range(measured))
        style.ratio_axis(axes[0, 0], measured["mean"])
        for row, (what, quantity, x) in enumerate(ROWS):
            for column, placement in enumerate(placements):
                panel = axes[row, column]
                panel.set(title=f"{what}, {placement}", xlabel=AXIS[x])
                panel.xaxis.set_tick_params(labelbottom=True)
                nominal = where(points, quantity=NOMINAL)
                look = THEORY_LINE if x == "effective" else style.NOMINAL_LINE
                panel.plot(nominal["noise_variance"], nominal["mean"], **look)
                _draw_panel(panel, where(points, placement=placement), quantity, x)
            axes[row, 0].set_ylabel(style.RATIO_LABEL)
        style.legend_below(figure, _legend(noises_in(points)))
    return Drawing(figure, points, READING, _finding(layers))


def _x_range(points: pd.DataFrame) -> tuple[float, float]:
    x = points[["noise_variance", "effective"]]
    x = x.where(x > 0)  # the axis is logarithmic
    return 0.7 * x.min().min(), 4 * x.max().max()  # on the right, room for the widths


def _draw_panel(panel: Axes, here: pd.DataFrame, quantity: str, x: str) -> None:
    drawn = here[here["effective"].notna() == (x == "effective")]
    for noise in noises_in(drawn):
        measured = where(drawn, noise=noise, quantity=quantity)
        style.error_bars(panel, measured[x], measured, color=style.NOISE_COLOUR[noise], ls="", **LOOK[noise])
    if x == "noise_variance":
        _name_widths(panel, where(drawn, quantity=quantity))
        if quantity == "local_ratio":
            _draw_theory(panel, where(drawn, quantity=EXACT))


def _draw_theory(panel: Axes, predicted: pd.DataFrame) -> None:
    """The exact law at the moments of each width and family."""
    for noise in noises_in(predicted):
        for width in values_in(predicted, "width"):
            here = where(predicted, noise=noise, width=width)
            look: dict = THEORY_LINE | {"color": style.NOISE_COLOUR[noise]}
            panel.plot(here["noise_variance"], here["mean"], **look)


def _name_widths(panel: Axes, measured: pd.DataFrame) -> None:
    """Write the width beside the strongest dropout marks, where they lie apart."""
    dropout = where(measured, noise="dropout")
    ends = where(dropout, noise_variance=dropout["noise_variance"].max())
    if ends["mean"].sort_values().diff().min() > 0.06:
        for width, variance, mean in zip(ends["width"], ends["noise_variance"], ends["mean"], strict=True):
            beside = {"xytext": (9, 0), "textcoords": "offset points", "va": "center", "fontsize": "small"}
            panel.annotate(f"{width}", (variance, mean), **beside)


def _legend(noises: list[str]) -> list:
    return [
        *(style.key(noise, color=style.NOISE_COLOUR[noise], ls="", **LOOK[noise]) for noise in noises),
        style.key("exact law at the measured moments", **THEORY_LINE),
        style.key("nominal: $1/(1+\\sigma^2)$", **style.NOMINAL_LINE),
    ]


def family_differences(layers: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """What the families differ by where their noise variances are equal, paired over seeds.

    Returns:
        A row per placement, width and pair of families with equal noise variance: placement, width,
        noise_variance, first, second, and the interval of first - second (mean, low, high, n).
    """
    rows = []
    for (placement, width), here in layers.groupby(["placement", "width"]):
        values = per_seed(here, quantity, ["noise", "noise_variance"])
        kinds = sorted({(noise, variance) for noise, variance, _ in values.index})
        for (first, variance), (second, other) in combinations(kinds, 2):
            if first != second and is_same_variance(variance, other):
                difference = paired_difference(values[first, variance], values[second, other])
                rows.append([placement, width, variance, first, second, *difference])
    columns = ["placement", "width", "noise_variance", "first", "second", "mean", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def _finding(layers: pd.DataFrame) -> str:
    distance = (layers["local_ratio"] / layers["local_ratio_exact"] - 1).abs()
    medians = [
        f"{noise} {100 * distance[layers['noise'] == noise].median():.2g} %" for noise in noises_in(layers)
    ]
    said = [f"Monte Carlo error, median distance of a BN layer from the curve above: {', '.join(medians)}."]
    for name, quantity in [("local", "local_ratio"), ("cumulative", "shift_ratio")]:
        differences = family_differences(layers, quantity).dropna(subset=["low"])
        if differences.empty:
            continue
        size = differences["mean"].abs()
        inside = ((differences["low"] <= 0) & (differences["high"] >= 0)).sum()
        most = differences.loc[size.nlargest(1).index].iloc[0]
        said.append(
            f"At equal σ² families differ in the {name} shift by {size.median():.2g} in the median and "
            f"{size.max():.2g} at most ({most['first']} less {most['second']} {most['mean']:+.2g}, "
            f"{most['placement']}, width {most['width']}, σ² {most['noise_variance']:.3g}); 0 lies inside "
            f"the 95 % interval, paired over seeds, in {inside} of {len(differences)} comparisons."
        )
    return " ".join([*said, *_agreeing_yet_apart(layers)])


def _agreeing_yet_apart(layers: pd.DataFrame) -> list[str]:
    """The BN layer in which two families agree in the local shift and differ most in the cumulative one."""
    by = ["placement", "width", "layer_index"]
    kinds = layers.groupby([*by, "noise", "strength", "noise_variance"])[["local_ratio", "shift_ratio"]]
    pairs = (
        kinds.mean().dropna().reset_index().merge(kinds.mean().reset_index(), on=by, suffixes=("", "_other"))
    )
    variances = pairs[["noise_variance", "noise_variance_other"]].to_numpy()
    alike = np.array([is_same_variance(*pair) for pair in variances], dtype=bool)
    pairs = pairs[(pairs["noise"] < pairs["noise_other"]) & alike]
    local, cumulative = (
        (pairs[name] - pairs[f"{name}_other"]).abs() for name in ("local_ratio", "shift_ratio")
    )
    apart = cumulative[(local <= AGREE) & (cumulative > AGREE)].nlargest(1)
    return [
        f"In {row['placement']}, width {row['width']}, BN layer {row['layer_index']}, σ² "
        f"{row['noise_variance']:.3g}, local shifts agree ({row['noise']} {row['local_ratio']:.3f}, "
        f"{row['noise_other']} {row['local_ratio_other']:.3f}) and cumulative ones do not "
        f"({row['shift_ratio']:.3f}, {row['shift_ratio_other']:.3f})."
        for _, row in pairs.loc[apart.index].iterrows()
    ]
