"""The paper's published numbers as evidence, so that each prediction is first put to the paper itself.

The paper gives a mean of 5 runs at most for each panel, a network on a data set, and no spread: panels take the
place of seeds, and an interval speaks of other networks and data sets. A prediction that these numbers do not meet
is no test of the paper.
"""

from functools import cache

import numpy as np
import pandas as pd

from .. import paper
from ..schema import NETWORK
from ..theory.noises import family
from .evidence import EFFECTS, Evidence

PANEL = ["dataset", "network"]
KEYS = [*PANEL, "placement", "noise", "strength"]
WIDTHS = {"PreResNet-110": 16, "WRN-28-10": 160}  # the one network that the paper has in two widths: C6
MODES = {"train_mode": "train_error_train_mode", "eval_mode": "train_error_eval_mode"}


@cache
def published() -> Evidence:
    """The paper's tables as evidence.

    members: a row a panel and kind of noise: test errors of Tables 3 to 6, those of Figure 4 where no table has
    them; `shift` from Figure 4, unsigned, as the figure is, and a lower bound where the curve leaves the plot;
    training errors of both modes at the end of Figure 5. layers: mean d cos^2 for each fan-in, Figure 3. What the
    paper does not publish is empty.
    """
    members = _errors().join(_shifts(), how="outer").join(_training_errors(), how="outer").reset_index()
    members = _with_panels(members).assign(status="ok")
    kinds = members[["noise", "strength"]].itertuples(index=False, name=None)
    members["noise_variance"] = [family(noise).noise_variance(strength) for noise, strength in kinds]
    cos2 = _with_panels(paper.figure3().query("quantity == 'd_cos2'"))
    cos2 = cos2.rename(columns={"x": "fan_in", "value": "d_cos2"})
    cos2 = cos2.assign(placement="none", noise="none", strength=0.0, layer_index=1)
    layers = cos2.assign(**dict.fromkeys(["local_ratio", "ratio_paper"], np.nan))
    return Evidence(members.assign(**dict.fromkeys(EFFECTS, np.nan)), layers, network=[])


def _errors() -> pd.DataFrame:
    """test_error and test_error_adjusted by panel and kind of noise; the baseline is that of Tables 4, 5 and 6."""
    errors = paper.error_rates().query("metric == 'top1'")
    errors = errors[(errors["table"] != "Figure 4") | (errors["placement"] != "none")]
    after = errors[errors["adjusted"]].groupby(KEYS)["error"].first().rename("test_error_adjusted")
    before = errors[~errors["adjusted"]].sort_values(
        "table", key=lambda table: table == "Figure 4", kind="stable"
    )
    return before.groupby(KEYS)["error"].first().rename("test_error").to_frame().join(after)


def _shifts() -> pd.Series:
    """Mean over BN layers of the log of Figure 4's magnitude; without noise the mean of both baselines."""
    layers = paper.figure4()
    noisy = layers["drop_ratio"] > 0
    layers = layers.assign(
        shift=np.log(layers["shift_magnitude"]),
        placement=layers["placement"].where(noisy, "none"),
        noise=np.where(noisy, "dropout", "none"),
        strength=layers["drop_ratio"],
    )
    return layers.groupby(KEYS)["shift"].mean()


def _training_errors() -> pd.DataFrame:
    """Training errors in either mode at the last epoch of Figure 5."""
    curves = paper.figure5()
    last = curves[curves["epoch"] == curves.groupby(PANEL)["epoch"].transform("max")]
    noisy = last["drop_ratio"] > 0
    last = last.assign(
        error=100 - last["accuracy_pct"],
        placement=last["placement"].where(noisy, "none"),
        noise=np.where(noisy, "dropout", "none"),
        strength=last["drop_ratio"],
    )
    return last.pivot(index=KEYS, columns="mode", values="error").rename(columns=MODES)[[*MODES.values()]]


def _with_panels(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that name a network, and the panel's number as its seed."""
    network = {"data": table["dataset"], "model": table["network"], "depth": pd.NA, "norm": "batch"}
    panels = paper.error_rates()[PANEL].drop_duplicates().apply(tuple, axis=1).tolist()
    seed = [panels.index(panel) for panel in table[PANEL].itertuples(index=False, name=None)]
    width = table["network"].map(WIDTHS).astype(float)
    return table.assign(**{name: network[name] for name in NETWORK}, width=width, seed=seed)
