"""Leaving a model as it was found: parameters, buffers, modes, hooks, attributes and random generators."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from analysis.audit.batches import AuditError


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Undo at the end, also after an error, whatever happened to the model and to the random generators.

    Tensors get their old bits back if they were written to, and modules their old attributes, among them the
    mode of each and the tables of its buffers, children and hooks. Costs one copy of the model's tensors.
    """
    modules = list(model.modules())
    attributes = [dict(module.__dict__) for module in modules]
    containers = [_containers(module) for module in modules]
    plain = [value for own in attributes for value in own.values() if isinstance(value, Tensor)]
    tensors: dict[int, tuple[Tensor, Tensor]] = {
        id(tensor): (tensor, tensor.detach().clone())
        for tensor in [*model.parameters(), *model.buffers(), *plain]
    }
    with preserved_randomness():
        try:
            yield
        finally:
            for module, old, contents in zip(modules, attributes, containers, strict=True):
                module.__dict__.clear()
                module.__dict__.update(old)
                for name, content in contents.items():
                    _refill(module.__dict__[name], content)
            with torch.no_grad():
                for tensor, bits in tensors.values():
                    if not _same_bits(tensor, bits):
                        tensor.copy_(bits)


def _containers(module: nn.Module) -> dict[str, Any]:
    """Copies of a module's dicts, lists and sets, among them the tables of its parameters, buffers and hooks."""
    return {
        name: kind(value)
        for name, value in module.__dict__.items()
        for kind in (dict, list, set)
        if isinstance(value, kind)
    }


def _refill(container: Any, content: Any) -> None:
    if container or content:
        container.clear()
        container.extend(content) if isinstance(container, list) else container.update(content)


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

    Raises AuditError for a model without any, for one whose layers do not know their sizes or weights yet, and for
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
    norms = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    if not norms:
        raise AuditError(
            "The model has no BatchNorm layer, so nothing in it can shift between train and eval "
            "(a functional batch_norm is not a layer, and is not seen)."
        )
    return norms
