"""The core picture: theory, what was measured, and what the paper published, in one, for each placement."""

from collections.abc import Collection

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from .. import paper
from ..select import behind_noise, means, noises_in, placements_in, require, values_in, where
from ..stats import mean_interval, per_seed
from ..tables import Study
from ..theory import noise_variance
from ..theory.noises import DROPOUT, UOUT
from . import style
from .curves import drawn_at
from .drawing import Drawing

# Column -> how it is drawn. Theory of a layer's own noise, then of all noise; what is measured of each.
THEORIES = {"ratio_paper": ":", "local_ratio_exact": "-", "shift_ratio_predicted": "-."}
MEASURED = {"local_ratio": True, "shift_ratio": False}  # filled?
PUBLISHED = "published"  # the quantity of what the paper says
EQUATION = {"before_bn": "Eq 8", "before_weight": "Eq 12"}
NETWORK_MARKER = {"PreResNet-110": "s", "ResNeXt-29-8x64": "D", "WRN-28-10": "^", "DenseNet-BC-100-12": "v"}

READING = (
    "Shift magnitude is max(r, 1/r) of the shift ratio r = variance at test / variance that BN stored, as "
    "in the paper's Figure 4; 1 is no shift. Points and lines: {network}, mean over the BN layers with "
    "noise of their own (under after_last_bn none has any: all layers) and over {seeds} seeds, with 95 % "
    "intervals. Filled points, the dotted and the solid line: a layer's own noise alone (local). Open "
    "points and the dash-dotted line: all noise (cumulative). Grey and hollow: the networks that the "
    "paper published, mean over their BN layers, and the range of the layers; an arrow where layers left "
    "the paper's plot, so that mean and range are lower bounds. They are other networks and other data: a "
    "scale, not a comparison."
)
SCALE = "Grey: the paper's networks, other networks and data: a scale, not a comparison"


def draw(study: Study) -> Drawing:
    """Draw the picture from the widest network that has dropout; of Uout the paper has one number, Eq 15."""
    layers = require(_magnitudes(behind_noise(study.layers)), "BN layer with a measured shift")
    noisy = require(layers[layers["noise"].isin([DROPOUT.name, UOUT.name])], "dropout or Uout before BN")
    width = max(values_in(noisy, "width"))
    noisy = where(noisy, width=width)
    by = ["noise", "placement", "strength", "noise_variance"]
    measured = means(noisy, [*THEORIES, *MEASURED], by).dropna(subset=["mean"])
    published = published_magnitudes()
    places = [
        (noise, placement)
        for noise in noises_in(noisy)
        for placement in placements_in(where(noisy, noise=noise))
        if noise == DROPOUT.name or len(where(published, noise=noise, placement=placement))
    ]
    both = pd.concat([measured, published])
    parts = [_with_curves(where(both, noise=noise, placement=placement)) for noise, placement in places]
    points = pd.concat(parts, ignore_index=True)
    network = f"{study.name}, width {width}"
    seeds = noisy["seed"].nunique()
    with style.figure_style():
        title = "Variance shift: theory, measurement and the paper's published values"
        figure, axes = style.panels(1, len(places), title, network, width=2.75, height=3.1, sharey=True)
        for panel, (noise, placement) in zip(axes[0], places, strict=True):
            here = where(points, noise=noise, placement=placement)
            _draw_panel(panel, here, placement)
            panel.set_title(placement if noise == DROPOUT.name else f"{placement}, {noise}")
            panel.set_xlabel(style.STRENGTH_LABEL[noise])
        top = pd.concat([points["mean"], where(points, quantity=PUBLISHED)["high"]]).max()
        _scale(axes[0, 0], top)
        axes[0, 0].set_ylabel("shift magnitude max(r, 1/r)")
        style.legend_below(figure, _legend(set(points["quantity"])), columns=3, title=SCALE)
    reading = READING.format(network=network, seeds=seeds)
    return Drawing(figure, points, reading, _finding(noisy, published))


def _magnitudes(layers: pd.DataFrame) -> pd.DataFrame:
    """The layers that were measured, with the magnitude of every ratio in its place."""
    ratios = layers.reindex(columns=[*THEORIES, *MEASURED]).astype(float)  # older studies lack the closure
    magnitudes = np.maximum(ratios, 1 / ratios)
    return layers.assign(**{str(name): magnitudes[name] for name in magnitudes}).dropna(
        subset=["shift_ratio"]
    )


def published_magnitudes() -> pd.DataFrame:
    """What the paper published of the shift, in the columns of `means` and some more.

    Columns: noise, placement, strength, dataset, network, mean, low, high (over BN layers), clipped (how many of
    them left the plot: then mean and high are lower bounds). Uout's is Eq 15, theory.
    """
    layers = paper.published_layers(paper.figure4())
    by = ["dataset", "network", "placement", "strength"]
    found = layers.groupby(by, as_index=False).agg(
        mean=("shift_magnitude", "mean"),
        low=("shift_magnitude", "min"),
        high=("shift_magnitude", "max"),
        clipped=("clipped", "sum"),
    )
    equation = where(paper.paper_values(), table_or_figure="Eq 15 text")
    magnitude = 1 / equation["value"]
    uout = equation[["dataset", "network", "placement", "strength"]].assign(
        noise=UOUT.name, mean=magnitude, low=magnitude, high=magnitude, clipped=0
    )
    published = pd.concat([found.assign(noise=DROPOUT.name), uout], ignore_index=True)
    return published.assign(quantity=PUBLISHED)


def _with_curves(points: pd.DataFrame) -> pd.DataFrame:
    """The points of a panel, with curves in the place of theory at the strengths that were measured."""
    curves = []
    for theory in THEORIES:
        predicted = where(points, quantity=theory)
        if not predicted.empty:
            noise, placement = predicted.iloc[0][["noise", "placement"]]
            curves.append(_curve(predicted, noise).assign(noise=noise, placement=placement, quantity=theory))
    return pd.concat([points[~points["quantity"].isin(list(THEORIES))], *curves])


def _draw_panel(panel: Axes, here: pd.DataFrame, placement: str) -> None:
    colour = style.PLACEMENT_COLOUR[placement]
    published = where(here, quantity=PUBLISHED)
    strongest = here["strength"].max()
    step = strongest / 60
    for place, (network, theirs) in enumerate(published.groupby("network", sort=False)):
        marker = NETWORK_MARKER.get(str(network), "x")
        x = theirs["strength"] + (place - 1.5) * step * (len(published) > 1)
        panel.vlines(x, theirs["low"], theirs["high"], color=style.GREY, lw=0.6, alpha=0.5)
        look = {"ls": "", "color": style.GREY, "mfc": "none", "mew": 0.9, "alpha": 0.9}
        panel.plot(x, theirs["mean"], marker=marker, ms=4.5, **look)
        bounded = theirs["clipped"] > 0
        panel.plot(x[bounded], theirs["high"][bounded], marker=r"$\uparrow$", ms=7, **look)
    for quantity, line in THEORIES.items():
        curve = where(here, quantity=quantity)
        panel.plot(curve["strength"], curve["mean"], color=colour, ls=line, zorder=3)
    for quantity, filled in MEASURED.items():
        measured = where(here, quantity=quantity)
        look = {"fmt": "o", "color": colour, "mfc": colour if filled else "white", "mew": 1.2, "zorder": 4}
        style.error_bars(panel, measured["strength"], measured, **look)
    panel.set_xlim(-2.5 * step, 1.05 * strongest)


def _curve(predicted: pd.DataFrame, noise: str) -> pd.DataFrame:
    """Magnitudes between those at the strengths that were measured: 1 + g sigma^2, with g interpolated."""
    strengths = drawn_at(predicted["strength"])
    variances = np.array([noise_variance(noise, strength) for strength in strengths])
    at = predicted.sort_values("noise_variance")
    gains = (at["mean"] - 1) / at["noise_variance"]
    magnitudes = 1 + np.interp(variances, at["noise_variance"], gains) * variances
    return pd.DataFrame({"strength": strengths, "noise_variance": variances, "mean": magnitudes})


def _scale(panel: Axes, top: float) -> None:
    ticks = [1, 1.2, 1.5, 2, 3, 5] if top < 8 else [10**power for power in range(12)]
    ticks += [1.1] if top < 3 else []  # or it would touch the next
    panel.set_yscale("log")
    panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.set_yticks([], minor=True)
    panel.set_ylim(0.97, 1.12 * top)


def _legend(quantities: Collection[str]) -> list:
    point = {"color": style.DARK, "ls": "", "marker": "o", "mew": 1.2}
    theirs = {"color": style.GREY, "ls": "", "mfc": "none", "ms": 4.5}
    # Where a shortcut joins in, the paper has no equation; of deep networks of images there is no closure.
    equation = style.key("the paper's Eq 8 or 12, own noise", color=style.DARK, ls=":")
    closure = style.key("closure, all noise", color=style.DARK, ls="-.")
    return [
        style.key("measured, own noise (local)", **point),
        style.key("measured, all noise (cumulative)", mfc="white", **point),
        *[equation] * ("ratio_paper" in quantities),
        style.key("exact law, own noise", color=style.DARK),
        *[closure] * ("shift_ratio_predicted" in quantities),
        *(
            style.key(f"the paper's {name}", marker=marker, **theirs)
            for name, marker in NETWORK_MARKER.items()
        ),
    ]


def _finding(noisy: pd.DataFrame, published: pd.DataFrame) -> str:
    """One sentence: what is measured at the example strength, what theory says, and what the paper published."""
    strength = 0.5 if (where(noisy, noise=DROPOUT.name)["strength"] == 0.5).any() else noisy["strength"].max()
    said = []
    for placement in placements_in(noisy):
        here = where(noisy, noise=DROPOUT.name, placement=placement, strength=strength)
        if placement not in EQUATION or here.empty:
            continue
        measured, closure = (
            mean_interval(per_seed(here, column, [])).mean
            for column in ("shift_ratio", "shift_ratio_predicted")
        )
        theirs = where(published, noise=DROPOUT.name, placement=placement, strength=strength)["mean"]
        sentence = f"{placement} is off by a factor of {measured:.2f}"
        sentence += f" (the closure says {closure:.2f}" if closure == closure else " (no closure"
        sentence += (
            f"; the paper's networks {theirs.min():.2f} to {theirs.max():.2f})" if len(theirs) else ")"
        )
        said.append(sentence)
    return f"At drop rate {strength:g} the variance {'; '.join(said)}." if said else ""
