"""Whether there is anything sound to measure: what BN stored, and what its layers get."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .batches import AuditError
from .forward import MODES, Layer

FAINT = 1e-6  # of a layer's variance without noise: less than that in train mode is nothing
_MEND = "adjust(model, batches) re-estimates what is stored."


def check_weights(model: nn.Module) -> None:
    """Raise AuditError for weights that are not finite."""
    for name, tensor in model.named_parameters():  # buffers may mask by infinity, or start from it
        numbers = (
            tensor if tensor.layout is torch.strided else tensor.detach().to_sparse().coalesce().values()
        )
        # A sum tells most at little cost.
        if not numbers.is_floating_point() or math.isfinite(numbers.sum().item()):
            continue
        if not torch.isfinite(numbers).all():
            raise AuditError(
                f"The model has NaN or infinite numbers in {name}: there is nothing sound to measure."
            )


def check_stored(model: nn.Module, layers: Iterable[Layer]) -> None:
    """Raise AuditError for a layer in use whose stored statistics, or whose way to update them, cannot work.

    The layers have seen a batch in train mode: it tells which are in use, and whether their input varies.
    """
    for layer in layers:
        norm = layer.norm
        if not layer.train.samples or norm.running_var is None or norm.running_mean is None:
            continue
        if norm.momentum is not None and not 0 <= norm.momentum < 2:
            raise AuditError(
                f"The BN layer {layer.name} has momentum={norm.momentum:g}, with which a running average runs "
                f"away instead of settling: set 0 to 1, or None for the plain mean. Then {_MEND}"
            )
        variance = norm.running_var
        is_finite = torch.isfinite(variance) & torch.isfinite(norm.running_mean)
        if not is_finite.all():
            check_weights(model)  # what they leave in statistics comes back
            raise AuditError(
                f"The BN layer {layer.name} stores NaN or infinite statistics {_among(~is_finite)}: eval mode "
                f"cannot work with them. All weights are finite, these statistics are not, as after one overflow: "
                f"{_MEND}"
            )
        if (variance < 0).any():
            raise AuditError(
                f"The BN layer {layer.name} stores a negative variance {_among(variance < 0)}, which is "
                f"impossible: what wrote it is broken. {_MEND}"
            )
        is_zero = variance == 0
        if (
            is_zero.any()
            and (is_zero := is_zero & (layer.train.variance.to(variance.device) > norm.eps)).any()
        ):
            raise AuditError(
                f"The BN layer {layer.name} stores a variance of 0 {_among(is_zero)}, though its input varies: "
                f"eval mode multiplies it by 1 / sqrt(eps). {_MEND}"
            )


def _among(is_hit: Tensor) -> str:
    return f"in {int(is_hit.sum())} of {is_hit.numel()} channels"


def check_measured(model: nn.Module, layers: list[Layer]) -> None:
    """Raise AuditError for numbers that are not finite, and for noise that leaves nothing of a layer's input.

    The layers are in the order of the forward pass, so that the first one is told of.
    """
    check_weights(model)
    for layer in layers:
        for mode in MODES:
            moments = getattr(layer, mode)
            if not moments.samples:
                continue
            if not math.isfinite(moments.layer_mean):
                raise AuditError(
                    f"NaN or infinite numbers reach the BN layer {layer.name} first, in {MODES[mode]}."
                )
            if not math.isfinite(moments.layer_variance):
                raise AuditError(
                    f"Numbers too large to be squared reach the BN layer {layer.name} first, "
                    f"in {MODES[mode]}."
                )
        has_both = layer.train.samples and layer.clean.samples
        if has_both and layer.train.layer_variance < FAINT * layer.clean.layer_variance:
            noise = ", ".join([*layer.own, *layer.upstream]) or "noise that has no name"
            raise AuditError(
                f"In train mode {noise} leaves nothing of what the BN layer {layer.name} gets with noise off: "
                "there is no variance to normalise by, and nothing to train on. Use a rate below 1."
            )
