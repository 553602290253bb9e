"""Tables of a study that never ran: numbers drawn around the theory, so that what they should show is known."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

STRENGTHS = {
    "dropout": [0.1, 0.3, 0.5, 0.7],
    "uout": [0.1, 0.3, 0.5, 1.0],
    "gaussian": [0.333, 0.655, 1.0, 1.528],
}
VARIANCE = {
    "none": lambda _: 0.0,
    "dropout": lambda rate: rate / (1 - rate),
    "uout": lambda beta: beta**2 / 3,
    "gaussian": lambda std: std**2,
}
PLACEMENTS = {
    "dropout": ["before_bn", "before_weight", "after_last_bn"],
    "uout": ["before_bn", "before_weight"],
    "gaussian": ["before_bn", "before_weight"],
}
OWN_NOISE_ONLY = ["local_ratio", "local_ratio_exact", "ratio_paper", "input_mean", "input_var"]
OWN_WEIGHT_ONLY = ["input_corr", "fan_in", "cos2", "d_cos2"]


def tables(
    *,
    widths=(16, 64, 256),
    seeds=range(5),
    noises=("dropout", "uout", "gaussian"),
    placements=("before_bn", "before_weight", "after_last_bn"),
    baseline=True,
    data="digits",
    model="mlp",
    depth=3,
    norm="batch",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """members and layers as a sweep over these would write them."""
    kinds = [("none", "none", 0.0)] * baseline
    kinds += [
        (placement, noise, strength)
        for noise in noises
        for placement in PLACEMENTS[noise]
        for strength in STRENGTHS[noise]
        if placement in placements
    ]
    members, layers = [], []
    for width, (placement, noise, strength), seed in product(widths, kinds, seeds):
        identity = {"data": data, "model": model, "width": width, "depth": depth, "norm": norm}
        identity |= {"placement": placement, "noise": noise, "strength": strength}
        identity |= {"noise_variance": VARIANCE[noise](strength), "seed": seed}
        random = np.random.default_rng([width, seed, *f"{placement}{noise}{strength}".encode()])
        layers += _layers_of_one(identity, random)
        members.append(identity | {"status": "ok"} | _errors(width, identity["noise_variance"], random))
    return pd.DataFrame(members), pd.DataFrame(layers)


def _errors(width: int, noise_variance: float, random: np.random.Generator) -> dict:
    """Errors of one member. Of what its shift costs, wrong means are a quarter and wrong variances the rest."""
    error = (1.2 + 8 / width) * np.exp(random.normal(0, 0.15)) + 20 * noise_variance**1.5 / np.sqrt(width)
    errors = {"test_error": error, "test_error_adjusted": 0.9 * error + random.normal(0, 0.05)}
    frozen, right = 0.99 * error, 0.9 * error
    shown = {"variances": 0.75, "shift": 1.0, "means": 0.25, "random": 0.1}  # share of what the shift costs
    cells = {"frozen": 1.0, "means_right": 0.75, "variances_right": 0.25, "both_right": 0.0}
    errors |= {f"test_error_{cell}": right + part * (frozen - right) for cell, part in cells.items()}
    errors |= {f"test_error_coarse_{key}": right + part * (frozen - right) for key, part in shown.items()}
    of_twin = {f"test_error_twin_{key}": 2 + 3 * part * noise_variance for key, part in shown.items()}
    return errors | (of_twin if noise_variance else dict.fromkeys(of_twin))


def _layers_of_one(identity: dict, random: np.random.Generator) -> list[dict]:
    """The BN layers of one member, shallow to deep; Eq 8 and 12 are written out once more, on purpose."""
    rows, upstream = [], 1.0
    width, placement, variance = identity["width"], identity["placement"], identity["noise_variance"]
    for index in range(1, identity["depth"] + 1):
        row = identity | {"layer_index": index, "layer_name": f"blocks.{index - 1}.bn", "channels": width}
        row |= dict.fromkeys([*OWN_NOISE_ONLY, *OWN_WEIGHT_ONLY])
        local = 1.0
        if placement == "before_bn" or (placement == "before_weight" and index > 1):
            c, v, from_correlation = 0.2, 1.0, 0.0
            if placement == "before_weight":
                c, v, rho = 0.4 - 0.02 * index, 0.35, random.normal(0.06, 0.01)
                d_cos2 = 1 + 0.02 * width * np.exp(random.normal(0, 0.1))
                from_correlation = v * rho * (d_cos2 - 1)
                row |= {"input_corr": rho, "fan_in": width, "cos2": d_cos2 / width, "d_cos2": d_cos2}
            paper = (v + from_correlation) / (v + variance * (c**2 + v) + from_correlation)
            exact = 1 / (1 + (1 / paper - 1) * np.exp(random.normal(0, 0.05)))
            local = exact * np.exp(random.normal(0, 0.004))
            row |= {"local_ratio": local, "local_ratio_exact": exact, "ratio_paper": paper}
            row |= {"input_mean": c, "input_var": v}
        shift = local * upstream**-0.2 * np.exp(random.normal(0, 0.01))
        upstream *= local
        row |= {"shift_ratio": shift, "shift_magnitude": max(shift, 1 / shift)}
        moved = 0.01 + 0.05 * variance * (index - 1)  # means move from the second layer on
        row |= {"mean_shift": moved, "mean_shift_frozen": moved - 0.005}
        row |= _large_batch(shift, moved - 0.005, index)
        rows.append(row | {"log_ratio_rms": abs(np.log(shift)) + 0.02})
    return rows


def _large_batch(shift: float, moved: float, index: int) -> dict:
    """What the same layer shows behind one large batch, and the closure's prediction, which is off by 1 %."""
    frozen, population = 1.02 * shift, shift
    row = {"shift_ratio_frozen": frozen, "shift_ratio_population": population, "mean_shift_population": moved}
    row |= {"finite_batch_factor": frozen / population, "staleness_factor": shift / frozen}
    off = 1.01 if index % 2 else 0.99
    return row | {"shift_ratio_predicted": off * population, "mean_shift_predicted": off * moved}


def write(folder: Path, members: pd.DataFrame, layers: pd.DataFrame) -> Path:
    """Write both tables as a study's folder, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    members.to_csv(folder / "members.csv", index=False)
    layers.to_csv(folder / "layers.csv", index=False)
    return folder


def diverge(
    members: pd.DataFrame, layers: pd.DataFrame, which: pd.Series
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same study where the members `which` (a boolean for each) diverged: empty errors, layers of nonsense."""
    members, layers = members.copy(), layers.copy()
    members.loc[which, "status"] = "diverged"
    members.loc[which, [name for name in members if name.startswith("test_error")]] = np.nan
    name = ["width", "placement", "noise", "strength", "seed"]
    lost = pd.MultiIndex.from_frame(layers[name]).isin(pd.MultiIndex.from_frame(members.loc[which, name]))
    layers.loc[lost, "shift_ratio"] = 1e9
    layers.loc[lost & layers["local_ratio"].notna(), "local_ratio"] = 1e9
    return members, layers
