"""Modules that are no BN of torch but work like one, told by what they do, not by their names.

Every module with buffers of numbers is called alone, with what it gets in the first batch. One that gives
something else in train mode than in eval mode, and changes its buffers in train mode so that eval mode gives
something else afterwards, normalises by stored statistics. Which buffer is which shows in the change: a running
average moves by a fixed share, in all channels, towards the batch's mean or variance.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.overrides import TorchFunctionMode

from .batches import map_tensors, tensors_in
from .preserve import Snapshot

CLOSE = 1e-3  # of a buffer's change: what rounding, and the unbiased variance of few values, may make of it


@dataclass
class StoringModule:
    """A module that stores running averages of its input's moments, with the attributes that a BN layer has.

    `dimension`: that of the channels in its input. `per_sample`: in train mode it normalises each sample by
    itself, as `InstanceNorm` does, and stores the mean of their moments.
    """

    module: nn.Module
    mean: str  # names of its buffers
    variance: str
    momentum: float | None
    dimension: int = 1
    per_sample: bool = False
    weight: None = None

    @property
    def training(self) -> bool:
        """Whether it is in train mode."""
        return self.module.training

    @property
    def running_mean(self) -> Tensor:
        """The stored mean [channels], the module's own memory."""
        return self.module.get_buffer(self.mean).view(-1)

    @property
    def running_var(self) -> Tensor:
        """The stored variance [channels], the module's own memory."""
        return self.module.get_buffer(self.variance).view(-1)

    @property
    def num_batches_tracked(self) -> Tensor | None:
        """The counter of updates; None where it has none of that name."""
        return getattr(self.module, "num_batches_tracked", None)

    @property
    def eps(self) -> float:
        """What it adds to the variance, as far as an attribute of that name says."""
        eps = getattr(self.module, "eps", 0.0)
        return float(eps) if isinstance(eps, int | float) else 0.0

    @property
    def num_features(self) -> int:
        """Channels."""
        return self.running_var.numel()

    def view(self, x: Tensor) -> Tensor:
        """An input as [samples, channels, *positions] whose pooled moments are those that it stores."""
        x = x.movedim(self.dimension, 1)
        if not self.per_sample:
            return x
        means, positions = _means(x), x[0, 0].numel()
        return (x - means) * (positions / max(positions - 1, 1)) ** 0.5 + means.mean(0)


Norm = _BatchNorm | StoringModule  # what the audit looks at


def _means(x: Tensor) -> Tensor:
    """The mean of each sample and channel of x [samples, channels, *positions]."""
    return x.mean(tuple(range(2, x.dim())), keepdim=True) if x.dim() > 2 else x


@dataclass
class Norms:
    """What was found among the modules that are no BN of torch; and which BN layers ignore their mode."""

    readable: dict[str, StoringModule] = field(default_factory=dict)
    unreadable: dict[str, nn.Module] = field(default_factory=dict)  # norms whose statistics cannot be told
    functional: dict[str, nn.Module] = field(default_factory=dict)  # see `CallsOnBuffers`
    always_batch: set[str] = field(default_factory=set)  # BN that normalises by its batch in eval mode too

    @property
    def modules(self) -> list[nn.Module]:
        """All modules that are no BN of torch."""
        return [*(norm.module for norm in self.readable.values()), *self.unreadable.values()]


def candidates(model: nn.Module) -> dict[str, nn.Module]:
    """The modules that have to be tried: without parts, with buffers of numbers, and not of torch's BN."""
    found = {}
    for name, module in model.named_modules():
        has_numbers = any(
            buffer is not None and buffer.is_floating_point() and buffer.numel() > 0
            for buffer in module._buffers.values()
        )
        is_leaf = next(module.children(), None) is None
        if (
            has_numbers
            and is_leaf
            and not (isinstance(module, _BatchNorm) and type(module).forward is _torchs(module))
        ):
            found[name] = module
    return found


def _torchs(module: _BatchNorm) -> Any:
    return nn.SyncBatchNorm.forward if isinstance(module, nn.SyncBatchNorm) else _BatchNorm.forward


class CallsOnBuffers(TorchFunctionMode):
    """Notes in `found`, by name, the modules with parts that call torch's batch_norm or instance_norm on buffers.

    They cannot be tried alone, nor put in a mode without their parts.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.found: dict[str, nn.Module] = {}
        self._owners = {
            id(buffer): (name, module)
            for name, module in model.named_modules()
            if not isinstance(module, _NormBase) and next(module.children(), None) is not None
            for buffer in module._buffers.values()
            if buffer is not None and buffer.is_floating_point()
        }

    def __bool__(self) -> bool:
        return bool(self._owners)

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run an operation."""
        if getattr(func, "__name__", "") in ("batch_norm", "instance_norm"):
            for tensor in tensors_in((args[1:], kwargs or {})):
                if (owner := self._owners.get(id(tensor))) is not None:
                    self.found[owner[0]] = owner[1]
        return func(*args, **(kwargs or {}))


@contextmanager
def tried(modules: dict[str, nn.Module]) -> Iterator[Norms]:
    """Try each of the modules when it is first called within; what is found is in what is yielded, afterwards."""
    norms, waiting, forwards = Norms(), dict(modules), []

    def trying(name: str, module: nn.Module) -> Callable:
        forward = module.forward

        def forward_after_trial(*args: Any, **kwargs: Any) -> Any:
            if waiting.pop(name, None) is not None:
                _try(norms, name, module, forward, args, kwargs)
            return forward(*args, **kwargs)

        return forward_after_trial

    try:
        for name, module in modules.items():
            forwards.append((module.__dict__, module.__dict__.get("forward")))
            module.__dict__["forward"] = trying(name, module)
        yield norms
    finally:
        for own, forward in forwards:
            own.pop("forward", None)
            if forward is not None:
                own["forward"] = forward


def _try(norms: Norms, name: str, module: nn.Module, forward: Callable, args: tuple, kwargs: dict) -> None:
    """Call a module in both modes from the same contents, and note what it is."""
    state, before = Snapshot(module), buffers_of(module)
    generators = state.generators.states()
    outputs, stored = [], []

    def run() -> Any:
        return forward(*map_tensors(args, torch.clone), **map_tensors(kwargs, torch.clone))

    try:
        for mode, starts_trained in ((True, False), (True, False), (False, False), (False, True)):
            module.__dict__["training"] = mode
            if starts_trained:
                _fill(module, stored[0])
            outputs.append([tensor.detach().clone() for tensor in tensors_in(run())])
            stored.append(buffers_of(module))
            state.restore(thorough=True)
    except Exception:  # a forward that fails will fail again, and is told of then
        return
    finally:
        state.restore(thorough=True)
        state.generators.give_back(generators)
    train, again, evaluated, later = outputs
    changed = {
        key: (value, now)
        for key, value in before.items()
        if (now := stored[0].get(key)) is not None and not torch.equal(value, now)
    }
    is_random = len(train) != len(again) or not all(map(torch.equal, train, again))
    if is_random or not changed:
        return
    if isinstance(module, _BatchNorm):
        if _alike(train, evaluated):
            norms.always_batch.add(name)
    elif not (_alike(train, evaluated) or _alike(evaluated, later)):
        x = args[0] if args else None
        norm = _read(module, x, changed) if isinstance(x, Tensor) and x.dim() > 1 else None
        if norm is None:
            norms.unreadable[name] = module
        else:
            norms.readable[name] = norm


def buffers_of(module: nn.Module) -> dict[str, Tensor]:
    """Copies of a module's own buffers, but of those whose memory was freed."""
    return {
        name: buffer.detach().clone()
        for name, buffer in module._buffers.items()
        if buffer is not None and _is_there(buffer)
    }


def _is_there(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and tensor.untyped_storage().nbytes() >= tensor.nbytes


def moved(module: nn.Module, before: dict[str, Tensor]) -> list[str]:
    """The names of a module's own buffers of numbers that are not as before."""
    now = buffers_of(module)
    return [
        name
        for name, value in before.items()
        if value.is_floating_point() and name in now and not torch.equal(now[name], value)
    ]


def _fill(module: nn.Module, values: dict[str, Tensor]) -> None:
    for name, value in values.items():
        module._buffers[name].copy_(value)  # type: ignore[union-attr]


def _alike(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(
        a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5)
        for a, b in zip(first, second, strict=True)
    )


def _read(module: nn.Module, x: Tensor, changed: dict[str, tuple[Tensor, Tensor]]) -> StoringModule | None:
    """Which buffers are the running mean and variance of x; None where that cannot be told."""
    sizes = {key: before.numel() for key, (before, _) in changed.items() if before.is_contiguous()}
    for dimension, per_sample in itertools.product((1, x.dim() - 1), (False, True)):
        if per_sample and (dimension != 1 or x.dim() < 3):
            continue
        channels = x.shape[dimension]
        fitting = {key: changed[key] for key, size in sizes.items() if size == channels}
        rows = (
            x.detach().double().movedim(dimension, 1).flatten(2)
            if x.dim() > 2
            else x.detach().double()[..., None]
        )
        pooled = rows.movedim(1, 0).flatten(1)  # [channels, numbers]
        variances = (
            [rows.var(2, correction=c).mean(0) for c in (1, 0)]
            if per_sample
            else [pooled.var(1, correction=c) for c in (1, 0)]
        )
        mean = _moved_towards(fitting, [pooled.mean(1)])
        variance = _moved_towards(fitting, variances)
        if mean is not None and variance is not None and mean[0] != variance[0]:
            return StoringModule(module, mean[0], variance[0], variance[1], dimension, per_sample)
    return None


def _moved_towards(
    changed: dict[str, tuple[Tensor, Tensor]], targets: list[Tensor]
) -> tuple[str, float] | None:
    """The buffer that moved by one share towards one of the targets [channels], and that share."""
    for key, (before, after) in changed.items():
        start = before.double().flatten()
        step = after.double().flatten() - start
        for target in targets:
            whole = target.to(start) - start
            share = float(step @ whole / (whole @ whole))
            if 0 < share <= 1.0001 and float((step - share * whole).norm()) <= CLOSE * float(step.norm()):
                return key, min(share, 1.0)
    return None
