"""Why stored statistics lag, and what keeps them up, from a layer's own numbers: updates, momentum, precision."""

import math

import pandas as pd
import torch

from .alarms import MEAN_TOLERANCE, TOLERANCE

FEW_UPDATES = 50
FEW_SAMPLES = 400  # a mean over fewer is off by more than 0.05 standard deviations
INITIAL = 0.01  # weight of the initial values above which they are named


def why(row: pd.Series, table: pd.DataFrame) -> str:
    """The reason why a layer's statistics lag, as far as the layer itself shows it; else nothing."""
    updates, momentum = int(row["updates"]), row["momentum"]
    if not row["is_tracked"]:
        return ", because track_running_stats is off: training leaves them alone, and eval mode uses them"
    if momentum == 0:
        return ", because with momentum 0 they never move"
    if updates == 0 and row["calls"]:
        return ", because it was never updated: train first, or load a checkpoint that has the statistics"
    if is_of_channels(row, "lag"):
        return ""
    initial = initial_weight(row)
    if initial > INITIAL:
        few = "only " if updates < FEW_UPDATES else ""
        once = f"after {few}{updates} update{'s' * (updates > 1)} with momentum {momentum:g}"
        return f", {once} the initial values still weigh {initial:.0%}"
    if 0 < updates < FEW_UPDATES:
        return f", after only {updates} update{'s' * (updates > 1)}"
    if (stall := stalls_within(row)) > INITIAL:
        return (
            f"; in {row['stored_as']} an average with momentum {momentum:g} can stop up to {stall:.0%} short"
        )
    if _averages_few(row, table):
        batch, averaged = _batch(table), _averaged(row)
        return f"; momentum {momentum:g} averages over {averaged:.3g} batches, of {batch:.3g} samples each"
    return ""


def advice(lagging: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """What keeps the statistics of the lagging layers up, each advice once."""
    return list(dict.fromkeys(filter(None, (_advice(row, table) for _, row in lagging.iterrows()))))


def is_of_channels(row: pd.Series, cause: str) -> bool:
    """Whether the layer as a whole is hardly off by a cause, so that its alarm is that of single channels."""
    if not row["channels_off"] or row[f"{cause}_mean_low"] > MEAN_TOLERANCE:
        return False
    return abs(row[f"{cause}_ratio"] - 1) <= TOLERANCE


def _advice(row: pd.Series, table: pd.DataFrame) -> str:
    momentum = row["momentum"]
    if row["is_permuted"]:
        return (
            "Load the checkpoint's running statistics in the order of its channels: they fit in another one."
        )
    if not row["is_tracked"]:
        return (
            "Set track_running_stats=True again before training, or running_mean and running_var to None for eval "
            "mode to use its batches."
        )
    if momentum == 0:
        return "Set a momentum, 0.1 say: with 0 no training moves what is stored."
    if stalls_within(row) > INITIAL:
        return f"Keep BN layers in float32 (layer.float()): {row['stored_as']} rounds small updates away."
    if is_of_channels(row, "lag"):
        return ""
    keep_up = "For statistics that keep up: "
    if math.isnan(momentum):
        return (
            f"{keep_up}a plain mean (momentum=None) remembers the start of training; reset_running_stats() before "
            "the last epoch, or a momentum of 0.1."
        )
    if initial_weight(row) > INITIAL:
        larger = ", or a larger momentum (0.1 is torch's own)" if momentum < 0.1 else ""
        return f"{keep_up}more updates{larger}."
    if momentum > 0.1:
        return f"{keep_up}more updates, larger batches, or a momentum of 0.1 or less."
    if _averages_few(row, table):
        return f"{keep_up}larger batches, or a momentum below {momentum:g}."
    return f"{keep_up}let the last updates run at a small learning rate, so that they average what is at the end."


def initial_weight(row: pd.Series) -> float:
    """What the values before training still weigh in a running average: (1 - momentum)^updates."""
    return (
        0.0
        if math.isnan(row["momentum"]) or not row["updates"]
        else abs(1 - row["momentum"]) ** row["updates"]
    )


def stalls_within(row: pd.Series) -> float:
    """How far from its goal, as a part of itself, a running average can stop: nearer, updates are rounded away."""
    momentum = row["momentum"]
    if row["stored_as"] not in ("bfloat16", "float16") or not momentum > 0:
        return 0.0
    return torch.finfo(getattr(torch, row["stored_as"])).eps / 2 / momentum


def _averaged(row: pd.Series) -> float:
    """Over how many batches a running average runs, see `stored.stored_weight`."""
    return (2 - row["momentum"]) / row["momentum"] if row["momentum"] else math.inf


def _batch(table: pd.DataFrame) -> float:
    return table.attrs.get("samples", 0) / max(table.attrs.get("batches", 1), 1)


def _averages_few(row: pd.Series, table: pd.DataFrame) -> bool:
    return _averaged(row) * _batch(table) < FEW_SAMPLES
