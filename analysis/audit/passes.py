"""Passes of a batch through a model in one of three modes, while every BN layer's input is looked at.

train    BN normalises by its batch, noise on
clean    BN normalises by its batch, noise off
eval     BN normalises by what it stored, noise off
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from analysis.audit.batches import AuditError, Forward
from analysis.audit.follow import Follower
from analysis.audit.inputs import Look, inputs_seen
from analysis.audit.layer import Layer
from analysis.audit.moments import SampleSums
from analysis.audit.nests import tensors_in
from analysis.audit.preserve import set_modes


class Mode(NamedTuple):
    """Whether BN normalises by its batch, whether noise is on, and the mode in words."""

    norms_train: bool
    noise_on: bool
    words: str


MODES = {
    "train": Mode(True, True, "train mode"),
    "clean": Mode(True, False, "train mode with noise off"),
    "eval": Mode(False, False, "eval mode"),
    "fresh": Mode(False, False, "eval mode on the evaluation batches"),
}


class Passes:
    """The passes of batches through a model, and what they showed of its noise."""

    def __init__(self, model: nn.Module, layers: dict[str, Layer], forward: Forward):
        self.model, self.layers, self.forward = model, layers, forward
        self.has_noise = False
        self.always_on: dict[str, None] = {}  # names of the noise that evaluation has too
        self._modules = list(model.modules())
        self._order: dict[str, int] = {}

    def depth(self, layer: Layer) -> int:
        """The layer's place in the order of the forward pass; layers that nothing reaches come last."""
        return self._order.get(layer.name, len(self.layers))

    def run(self, mode: str, batch: Any) -> None:
        """One pass in a mode of `MODES`."""
        self._run(mode, batch, lambda layer: getattr(layer, mode).update)

    def train_and_clean(self, batch: Any) -> None:
        """The train pass, and the clean pass if noise reaches BN; a layer that it does not reach is seen once."""
        kept: dict[str, list[SampleSums]] = {name: [] for name in self.layers}

        def keep(layer: Layer, x: Tensor) -> SampleSums:
            sums = layer.train.update(x)
            kept[layer.name].append(sums)
            return sums

        def again(layer: Layer, _: Tensor) -> SampleSums | None:
            return kept[layer.name].pop(0) if kept[layer.name] else None

        self._run(
            "train", batch, lambda layer: layer.train.update if layer.is_noisy else partial(keep, layer)
        )
        if any(layer.is_noisy for layer in self.layers.values()):
            self._run(
                "clean", batch, lambda layer: layer.clean.update if layer.is_noisy else partial(again, layer)
            )

    def follow(self, batch: Any) -> None:
        """The clean pass and the train pass with its noise followed."""
        clean_sums: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        train_sums: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        for layer in self.layers.values():
            if not layer.is_noisy and layer.train.seen:
                layer.clean = copy.deepcopy(layer.train)  # if noise shows now, both were the same until now

        def look_clean(layer: Layer, x: Tensor) -> SampleSums:
            sums = layer.clean.update(x)
            clean_sums[layer.name].append(sums.sums.clone())  # before anything changes x in place
            return sums

        with Follower(self.model, only_names=True) as finder:
            clean = self._run("clean", batch, lambda layer: partial(look_clean, layer))
        self.always_on |= finder.found
        follower = Follower(self.model, ignored=frozenset(self.always_on))

        def look_train(layer: Layer, x: Tensor) -> None:
            self._order.setdefault(layer.name, len(self._order))
            train_sums[layer.name].append(layer.train.update(x).sums.clone())
            if trail := follower.trail(x):
                layer.is_noisy = True
                layer.note(x, trail)

        with follower:
            noisy = self._run("train", batch, lambda layer: partial(look_train, layer))
        for name, layer in self.layers.items():
            layer.calls = max(layer.calls, len(train_sums[name]))
            layer.is_noisy |= not _agree(train_sums[name], clean_sums[name])
        is_noisy = any(layer.is_noisy for layer in self.layers.values())
        self.has_noise |= is_noisy or bool(follower.found) or not _agree(noisy, clean)

    def _run(self, mode: str, batch: Any, look: Callable[[Layer], Look]) -> Any:
        set_modes(self._modules, MODES[mode].norms_train, MODES[mode].noise_on)
        with inputs_seen((layer.norm, look(layer)) for layer in self.layers.values()):
            return run(self.forward, self.model, batch, MODES[mode].words)


def _agree(first: Any, second: Any) -> bool:
    """Whether two outputs of the model are the same but for rounding."""
    return all(
        a.shape == b.shape and bool((a - b).abs().max() <= 1e-3 * a.abs().max())
        for a, b in zip(tensors_in(first), tensors_in(second), strict=False)
        if a.is_floating_point() and a.numel()
    )


def run(forward: Forward, model: nn.Module, batch: Any, mode: str) -> Any:
    """Call the model; its failure becomes a sentence that names the mode."""
    try:
        return forward(model, batch)
    except AuditError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        if "more than 1 value per channel" in reason:
            raise AuditError(
                "In train mode BN cannot normalise a single value per channel: give batches of 2 samples or more."
            ) from error
        raise AuditError(f"The model's forward failed in {mode}: {type(error).__name__}: {reason}") from error
