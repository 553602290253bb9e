"""Passes of a batch through a model in one of three modes, while every BN layer's input is looked at.

train    BN normalises by its batch, noise on
clean    BN normalises by its batch, noise off
eval     BN normalises by what it stored, noise off
"""

from collections import defaultdict
from typing import Any, NamedTuple

from torch import Tensor, nn

from analysis.audit.batches import AuditError, Forward
from analysis.audit.follow import Follower
from analysis.audit.inputs import Look, Moments
from analysis.audit.layer import Layer
from analysis.audit.modes import Modes
from analysis.audit.nests import tensors_in
from analysis.audit.sums import SampleSums


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
    """The passes of batches through a model, and what they showed of its noise.

    Every BN layer's input has to be given to `look`, see `inputs.inputs_seen`.
    """

    def __init__(self, model: nn.Module, layers: dict[str, Layer], forward: Forward):
        self.model, self.layers, self.forward = model, layers, forward
        self.has_noise = False
        self.always_on: dict[str, None] = {}  # names of the noise that evaluation has too
        self._modes = Modes(model)
        self._look: Look = lambda layer, x: None
        self._order: dict[str, int] = {}

    def look(self, layer: Layer, x: Tensor) -> Moments | None:
        """Look at a layer's input x; return its moments where the layer may normalise by them."""
        return self._look(layer, x)

    def depth(self, layer: Layer) -> int:
        """The layer's place in the order of the forward pass; layers that nothing reaches come last."""
        return self._order.get(layer.name, len(self.layers))

    def eval(self, mode: str, batch: Any) -> None:
        """A pass in eval mode, for the stream `eval` or `fresh`."""

        def look(layer: Layer, x: Tensor) -> None:
            getattr(layer, mode).update(x)

        self._run(mode, batch, look)

    def train_and_clean(self, batch: Any) -> None:
        """The train pass, and the clean pass if noise reaches BN; a layer that it does not reach is seen once."""
        kept: dict[str, list[Moments | None]] = defaultdict(list)

        def look_train(layer: Layer, x: Tensor) -> Moments | None:
            layer.train.update(x)
            moments = layer.train.batch_moments()
            if not layer.is_noisy:
                kept[layer.name].append(moments)
            return moments

        def look_clean(layer: Layer, x: Tensor) -> Moments | None:
            if layer.is_noisy:
                layer.clean.update(x)
                return layer.clean.batch_moments()
            return kept[layer.name].pop(0) if kept[layer.name] else None

        self._run("train", batch, look_train)
        if any(layer.is_noisy for layer in self.layers.values()):
            self._run("clean", batch, look_clean)

    def follow(self, batch: Any) -> None:
        """The clean pass and the train pass with its noise followed."""
        clean_sums: dict[str, list[SampleSums]] = defaultdict(list)
        train_sums: dict[str, list[SampleSums]] = defaultdict(list)
        reached = set()

        def look_clean(layer: Layer, x: Tensor) -> Moments | None:
            moments = layer.clean if layer.is_noisy else layer.train
            clean_sums[layer.name].append(moments.sums_of(x).copy())
            return moments.batch_moments()

        def look_train(layer: Layer, x: Tensor) -> Moments | None:
            self._order.setdefault(layer.name, len(self._order))
            train_sums[layer.name].append(layer.train.sums_of(x).copy())
            if trail := follower.trail(x):
                reached.add(layer.name)
                layer.note(x, trail)
            return layer.train.batch_moments()

        with Follower(self.model) as follower:
            clean = self._run("clean", batch, look_clean)
            self.always_on |= follower.found
            follower.follow(ignored=frozenset(self.always_on))
            noisy = self._run("train", batch, look_train)
        for name, layer in self.layers.items():
            layer.calls = max(layer.calls, len(train_sums[name]))
            is_noisy = name in reached or not _agree(train_sums[name], clean_sums[name])
            if is_noisy and not layer.is_noisy:
                layer.is_noisy = True
                layer.clean = layer.train.copy()  # both were the same until now
            for sums in train_sums[name]:
                layer.train.add(sums)
            for sums in clean_sums[name] if layer.is_noisy else ():
                layer.clean.add(sums)
        is_noisy = any(layer.is_noisy for layer in self.layers.values())
        self.has_noise |= is_noisy or bool(follower.found) or not _agree(noisy, clean)

    def _run(self, mode: str, batch: Any, look: Look) -> Any:
        self._modes.set(MODES[mode].norms_train, MODES[mode].noise_on)
        self._look = look
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
