"""The network that is audited: what is inside its wrappers, its BN layers, and why one cannot be audited."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from .batches import AuditError


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside `torch.compile`, DataParallel or DistributedDataParallel; it has the same tensors."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def norm_layers(model: nn.Module) -> dict[str, _BatchNorm]:
    """Every BN layer by its name; SyncBatchNorm and subclasses of other libraries included.

    Raises AuditError for a model whose layers do not know their sizes or weights yet, and for
    TorchScript, into which nobody can look.
    """
    scripts = (name for name, part in model.named_modules() if isinstance(part, torch.jit.ScriptModule))
    if (script := next(scripts, None)) is not None:
        part = f"Its part {script}" if script else "The model"
        raise AuditError(
            f"{part} is TorchScript, which hides its layers: audit the nn.Module it was made of."
        )
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor):
            raise AuditError(
                f"The model has lazy layers that have not seen data yet ({name}): run one batch through it first."
            )
        if tensor.is_meta:
            raise AuditError(f"The model has no weights, {name} is on torch's meta device: load them first.")
    return {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
