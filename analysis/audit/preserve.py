"""Leaving a model as it was found: parameters, buffers, modes, hooks, attributes and random generators."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from analysis.audit.batches import AuditError

_TABLES = ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks")


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Undo at the end, also after an error, whatever happened to the model and to the random generators.

    Tensors get their old bits back if they were written to, and modules their old attributes, among them the
    mode of each and the tables of its buffers, children and hooks. Costs one copy of the model's tensors.
    """
    modules = list(model.modules())
    attributes = [dict(module.__dict__) for module in modules]
    tables = [{name: dict(module.__dict__[name]) for name in _TABLES} for module in modules]
    tensors: dict[int, tuple[Tensor, Tensor]] = {
        id(tensor): (tensor, tensor.detach().clone()) for tensor in [*model.parameters(), *model.buffers()]
    }
    with preserved_randomness():
        try:
            yield
        finally:
            for module, old, old_tables in zip(modules, attributes, tables, strict=True):
                module.__dict__.clear()
                module.__dict__.update(old)
                for name, table in old_tables.items():
                    module.__dict__[name].clear()
                    module.__dict__[name].update(table)
            with torch.no_grad():
                for tensor, copy in tensors.values():
                    if not _same_bits(tensor, copy):
                        tensor.copy_(copy)


@contextmanager
def preserved_randomness() -> Iterator[None]:
    """Give every random generator its state back: torch's on the CPU and all GPUs, numpy's and Python's."""
    cpu, python, numpy = torch.get_rng_state(), random.getstate(), np.random.get_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        random.setstate(python)
        np.random.set_state(numpy)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)


def _same_bits(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first.detach(), second)  # nan is unequal: copied back


def set_modes(model: nn.Module, norms_train: bool, noise_on: bool) -> None:
    """Put BN layers in train or eval mode and everything else likewise; BN in train mode keeps its statistics.

    `track_running_stats = False` makes a BN layer normalise by its batch without touching what it stored.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.training = norms_train
            if module.running_var is not None:
                module.track_running_stats = not norms_train
        else:
            module.training = noise_on


def norm_layers(model: nn.Module) -> dict[str, _BatchNorm]:
    """Every BN layer by its name; SyncBatchNorm and subclasses of other libraries included.

    Raises AuditError for a model without any, and for one whose layers do not know their sizes yet.
    """
    lazy = [name for name, tensor in [*model.named_parameters(), *model.named_buffers()] if is_lazy(tensor)]
    if lazy:
        raise AuditError(
            f"The model has lazy layers that have not seen data yet ({lazy[0]}): run one batch through it first."
        )
    norms = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    if not norms:
        raise AuditError(
            "The model has no BatchNorm layer, so nothing in it can shift between train and eval."
        )
    return norms
