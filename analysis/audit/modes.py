"""A model's modes: what its own `train()` and `eval()` make of it, and the two modes between these.

From train to eval mode there are three steps, and each changes one thing alone:

    train    as `model.train()` leaves it
    clean    noise off: modules that were seen to make noise are as after `model.eval()`, or their calls are quiet
    plain    everything is as after `model.eval()`, but norms still are as in train mode
    eval     as `model.eval()` leaves it; `fresh` is the same, on the evaluation batches
"""

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from .batches import AuditError, reason
from .sources import is_noise_site

MODES = {  # by name, in words
    "train": "train mode",
    "clean": "train mode with noise off",
    "plain": "train mode with noise off",  # but for what else `self.training` switches
    "eval": "eval mode",
    "fresh": "eval mode on the evaluation batches",
}


class _Flags(NamedTuple):
    """A module's attributes, and its `training` after `model.train()` and after `model.eval()`."""

    own: dict[str, Any]
    train: bool
    eval: bool


class Modes:
    """Puts a model in one of `MODES`; it must be put back by who uses this, see `preserve`.

    `train()` and `eval()` are the model's own: where a class overrides one of them it is called for every pass,
    for it may do more than set `training`. Eval mode is what `eval()` makes of a model in train mode.

    A BN layer in train mode keeps its statistics: `track_running_stats = False` makes it normalise by its batch
    and leave alone what it stored. A SyncBatchNorm of a single process works as the plain layer that it then is,
    which runs on a CPU too. The harness's own noise, which is data, is taken out where noise is off.
    """

    def __init__(self, model: nn.Module):
        self._model, modules = model, list(model.modules())
        self.has_own = any(map(_has_own_modes, modules))
        given = [module.training for module in modules]
        # Attributes are read and set directly: nn.Module's way takes as long as a small layer.
        train, evaluation = [True] * len(modules), [False] * len(modules)
        if self.has_own:
            train, evaluation = self._learn(modules)
        # Norms and noise that are not in the mode that the whole was in, which `train()` or `eval()` undoes: by
        # name, with the mode that they were in.
        self.undone = {
            name: "train" if was else "eval"
            for (name, module), was, now in zip(
                model.named_modules(), given, train if given[0] else evaluation, strict=True
            )
            if isinstance(module, _BatchNorm | _DropoutNd) and given[0] != was != now
        }
        self._flags = {
            id(module): _Flags(module.__dict__, *flags)
            for module, *flags in zip(modules, train, evaluation, strict=True)
        }
        norms = [module for module in modules if isinstance(module, _BatchNorm)]
        self._storing = [norm.__dict__ for norm in norms if norm.running_var is not None]
        self._sites = [module.__dict__ for module in modules if is_noise_site(module)]
        is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        synchronised = () if is_distributed else norms
        self._plain_forwards = [
            (norm.__dict__, partial(_BatchNorm.forward, norm))
            for norm in synchronised
            if isinstance(norm, nn.SyncBatchNorm)
        ]
        self._norms = {id(norm) for norm in norms}
        self._frozen: set[int] = set()
        self._quiet: set[int] = set()
        self.has_quiet_calls = False  # in `clean`, noisy calls of torch have to run without their noise
        self._has_hidden_noise = False
        self._by_mode: dict[str, list[tuple[dict[str, Any], bool]]] = {}

    def _learn(self, modules: list[nn.Module]) -> tuple[list[bool], list[bool]]:
        """`training` of all modules after `train()` and after `eval()`."""
        flags = []
        for own_mode in (self._model.train, self._model.eval):
            self._call(own_mode)
            flags.append([module.training for module in modules])
        return flags[0], flags[1]

    def _call(self, own_mode: Any) -> None:
        try:
            own_mode()
        except Exception as error:  # the user's code may raise anything
            raise AuditError(f"The model's {own_mode.__name__}() failed: {reason(error)}") from error

    def stays_on(self, module: nn.Module) -> bool:
        """Whether a module is in train mode after `model.eval()` too."""
        return self._flags[id(module)].eval

    def add_norms(self, norms: Iterable[nn.Module]) -> None:
        """Count other modules, which work like BN, among the norms."""
        self._norms.update(map(id, norms))
        self._by_mode.clear()

    def freeze(self, norms: Iterable[nn.Module]) -> bool:
        """Note norms that run in eval mode in train mode too; return whether that is news."""
        before = len(self._frozen)
        self._frozen.update(id(norm) for norm in norms if self._flags[id(norm)].train)
        self._by_mode.clear()
        return len(self._frozen) > before

    def unfreeze(self, norms: Iterable[nn.Module]) -> None:
        """Have frozen norms normalise by their batch, as others do."""
        for norm in norms:
            self._frozen.discard(id(norm))
            self._flags[id(norm)] = self._flags[id(norm)]._replace(train=True)
        self._by_mode.clear()

    def switch_off(self, modules: Iterable[nn.Module], only_calls: bool) -> None:
        """Note modules that make noise in train mode; `only_calls`: by calls of torch that `Quiet` knows.

        Of a module of the user's that has parts only these calls are switched off, for it may do more by its mode.
        """
        for module in modules:
            is_one_thing = (
                type(module).__module__.startswith("torch.") or next(module.children(), None) is None
            )
            if only_calls and not is_one_thing:
                self.has_quiet_calls = True
            else:
                self._quiet.add(id(module))
        self._by_mode.clear()

    def switch_all_off(self) -> None:
        """Let `clean` be `plain`: there is noise of which nobody knows where it is made."""
        self._has_hidden_noise, self.has_quiet_calls = True, False
        self._by_mode.clear()

    def set(self, mode: str) -> None:
        """Put the model in a mode."""
        if mode == "clean" and self._has_hidden_noise:
            mode = "plain"
        if self.has_own:
            self._call(self._model.train)
            if mode in ("plain", "eval", "fresh"):
                self._call(self._model.eval)
        flags = self._by_mode.get(mode)
        if flags is None:
            flags = self._by_mode[mode] = [
                (of.own, self._flag(key, of, mode)) for key, of in self._flags.items()
            ]
        for own, flag in flags:
            own["training"] = flag
        for own in self._storing:
            own["track_running_stats"] = not own["training"]
        for own, forward in self._plain_forwards:
            own["forward"] = forward
        for own in self._sites:
            own.pop("forward", None)
            if mode != "train":
                own["forward"] = _identity

    def _flag(self, key: int, of: _Flags, mode: str) -> bool:
        if mode in ("eval", "fresh"):
            return of.eval
        if key in self._norms:
            return of.train and key not in self._frozen
        return of.eval if mode == "plain" or (mode == "clean" and key in self._quiet) else of.train


def _has_own_modes(module: nn.Module) -> bool:
    """Whether a module's `train` or `eval` is not that of every module."""
    own, cls = module.__dict__, type(module)
    is_plain = cls.train is nn.Module.train and cls.eval is nn.Module.eval
    return not is_plain or "train" in own or "eval" in own


def _identity(x: Tensor) -> Tensor:
    return x
