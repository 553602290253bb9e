"""Re-estimating what BN stored, without noise, and what that does to the user's metric."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from analysis.audit.batches import AuditError, Forward, call, labels_of, leftovers_joined, scores_of
from analysis.audit.inputs import Moments, inputs_seen
from analysis.audit.layer import Layer
from analysis.audit.modes import Modes
from analysis.audit.passes import MODES, run
from analysis.audit.preserve import norm_layers, unchanged, unwrapped

Metric = Callable[[nn.Module, Iterable[Any]], float]


@torch.no_grad()
def adjust(model: nn.Module, batches: Iterable[Any], *, forward: Forward | None = None) -> nn.Module:
    """Give every BN layer the statistics of `batches` without noise, in place; return the model.

    The paper's BN adjustment, joint: BN normalises by its batch and every noise is off, so that each layer's
    statistics are taken behind layers that are adjusted already. (`torch.optim.swa_utils.update_bn` leaves the
    noise on, and with it the shift.) Moments are pooled exactly over all samples of all batches, of any sizes, and
    written at the end; one pass, constant memory, on the model's device. Counters grow by the number of batches;
    modes and everything else stay, and after an error the statistics too.

    Args:
        model: any module with BN.
        batches: training data, in batches of the size of training; see `audit`.
        forward: `forward(model, batch)`, where calling the model is not as plain as that.

    Raises:
        AuditError: in a plain sentence, if there is nothing to adjust or the model fails.
    """
    inner = unwrapped(model)
    layers = {
        name: Layer(name, norm) for name, norm in norm_layers(inner).items() if norm.running_var is not None
    }
    if not layers:
        raise AuditError(
            "All BN layers have track_running_stats=False: they store nothing that could be adjusted."
        )
    count = 0

    def look(layer: Layer, x: Tensor) -> Moments | None:
        layer.clean.update(x)
        return layer.clean.batch_moments()

    with unchanged(inner):
        Modes(inner).set(norms_train=True, noise_on=False)
        with inputs_seen(layers.values(), look):
            for count, batch in enumerate(leftovers_joined(batches), 1):  # noqa: B007
                run(forward or call, inner, batch, MODES["clean"].words)
    if not count:
        raise AuditError("There are no batches to run the model on; an iterator can be read only once.")
    for layer in layers.values():
        if layer.clean.seen and not torch.isfinite(layer.clean.variance).all():
            raise AuditError(
                f"NaN or infinite numbers reach the BN layer {layer.name}: nothing was adjusted."
            )
    for layer in layers.values():
        if layer.clean.seen:
            layer.norm.running_mean.copy_(layer.clean.mean)  # type: ignore[union-attr]
            layer.norm.running_var.copy_(layer.clean.variance)  # type: ignore[union-attr]
            layer.norm.num_batches_tracked.add_(count)  # type: ignore[union-attr]
    return model


@torch.no_grad()
def accuracy(model: nn.Module, batches: Iterable[Any], *, forward: Forward | None = None) -> float:
    """Percentage of right classes, of samples or pixels, in the model's present mode; nan without such labels."""
    right = total = 0
    for batch in leftovers_joined(batches):
        labels = labels_of(batch)
        scores = (
            None
            if labels is None
            else scores_of(run(forward or call, model, batch, "its present mode"), labels)
        )
        if scores is None or labels is None:
            return float("nan")
        right += int((scores.argmax(1) == labels.to(scores.device)).sum())
        total += labels.numel()
    return 100 * right / total if total else float("nan")


@torch.no_grad()
def compare(
    models: Mapping[str, nn.Module], batches: Iterable[Any], metric: Metric = accuracy
) -> pd.DataFrame:
    """A row per model with the metric in train mode and in eval mode; the models stay as they are.

    Args:
        models: by the name of their row, for example {"before": model, "after": adjusted}.
        batches: read once per model and mode, hence a list or a loader.
        metric: `metric(model, batches)`, which must leave the mode alone; no gradients are kept. By default the
            accuracy in per cent.

    Raises:
        AuditError: if the batches can be read only once, or the metric fails.
    """
    if isinstance(batches, Iterator):
        raise AuditError("An iterator can be read only once: give a list of batches or a DataLoader.")
    rows: list[dict[str, str | float]] = []
    for name, model in models.items():
        row: dict[str, str | float] = {"model": name}
        for mode in ("train", "eval"):
            with unchanged(model):
                Modes(model).set(norms_train=mode == "train", noise_on=mode == "train")
                row[f"{mode}_mode"] = _measured(metric, model, batches)
        rows.append(row)
    return pd.DataFrame(rows)


def _measured(metric: Metric, model: nn.Module, batches: Iterable[Any]) -> float:
    try:
        return float(metric(model, batches))
    except AuditError:
        raise
    except Exception as error:  # the user's function may raise anything
        reason = " ".join(str(error).split())[:300]
        raise AuditError(f"The metric failed: {type(error).__name__}: {reason}") from error
