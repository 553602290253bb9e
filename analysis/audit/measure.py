"""Looking at every BN layer's input in three modes, batch by batch, without changing the model.

    train    BN normalises by its batch, noise on
    clean    BN normalises by its batch, noise off
    eval     BN normalises by what it stored, noise off

Each batch runs once in each mode, so that a stream that can be read only once serves. On one batch in 16 the
train pass is followed operation by operation, see `follow`; where no noise reaches a BN layer on these, the
clean pass would show what the train pass does, and is left out on the others.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from analysis.audit.batches import AuditError, Forward, call, leftovers_joined, size_of
from analysis.audit.follow import Follower
from analysis.audit.inputs import Look, inputs_seen
from analysis.audit.moments import GroupedMoments, SampleSums
from analysis.audit.nests import tensors_in
from analysis.audit.preserve import norm_layers, set_modes, unchanged
from analysis.audit.trails import Trail

FOLLOWED = 16  # one batch in this many is followed


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


@dataclass
class Layer:
    """What was seen of one BN layer. All moments are of its input."""

    name: str
    norm: _BatchNorm
    calls: int = 0  # per forward in train mode
    # A stream of moments for each of `MODES`:
    train: GroupedMoments = field(default_factory=GroupedMoments)
    clean: GroupedMoments = field(default_factory=GroupedMoments)
    eval: GroupedMoments = field(default_factory=GroupedMoments)
    fresh: GroupedMoments = field(default_factory=GroupedMoments)
    # And of the followed batches alone, in train mode:
    noisy_part: GroupedMoments = field(default_factory=GroupedMoments)  # as it is
    local_part: GroupedMoments = field(default_factory=GroupedMoments)  # without the layer's own noise
    added: GroupedMoments = field(
        default_factory=GroupedMoments
    )  # the variance that noise adds, by the exact law
    own: dict[str, None] = field(default_factory=dict)  # names of its own noise, in order
    upstream: dict[str, None] = field(default_factory=dict)
    is_noisy: bool = False  # noise reaches it; where none does, the clean stream is the train stream
    is_followed: bool = True  # every noise of its own could be followed to it
    has_law: bool = True  # and the exact law holds on the way

    def note(self, x: Tensor, trail: Trail) -> None:
        """Note what following found out about its input x."""
        self.upstream |= dict.fromkeys(sorted(trail.upstream))
        if not trail.links:
            return
        self.own |= dict.fromkeys(link.name for link in trail.links.values())
        if trail.clean is None or trail.clean.shape != x.shape:
            self.is_followed = self.has_law = False
            return
        self.noisy_part.update(x)
        self.local_part.update(trail.clean)
        parts = [part for link in trail.links.values() if (part := link.added_variance()) is not None]
        if len(parts) < len(trail.links) or any(part.shape != x.shape for part in parts):
            self.has_law = False
        else:
            self.added.update(torch.stack(parts).sum(0))


@dataclass
class Measurement:
    """All layers in the order of the forward pass, and what the batches were."""

    layers: list[Layer]
    batches: int
    samples: int
    has_noise: bool
    always_on: list[str]  # names of noise that is on in eval mode too
    has_eval_batches: bool


@torch.no_grad()
def measure(
    model: nn.Module, batches: Iterable, eval_batches: Iterable | None, forward: Forward | None, seed: int
) -> Measurement:
    """Run the passes; the model and all random generators are as before, also after an error.

    Raises AuditError, in a plain sentence, where there is nothing to audit or the model cannot be run.
    """
    model = getattr(model, "_orig_mod", model)  # of torch.compile; what it was made of has the same tensors
    layers = {name: Layer(name, norm) for name, norm in norm_layers(model).items()}
    passes = Passes(model, layers, forward or call)
    count = samples = 0
    with unchanged(model), torch.compiler.set_stance("force_eager"):  # compiled code cannot be followed
        torch.manual_seed(seed)
        for count, batch in enumerate(leftovers_joined(batches), 1):
            if (count - 1) % FOLLOWED == 0:
                passes.follow(batch)
            else:
                passes.train_and_clean(batch)
            passes.run("eval", batch)
            samples += size_of(batch)
        if not count:
            raise AuditError("There are no batches to run the model on; an iterator can be read only once.")
        for batch in () if eval_batches is None else leftovers_joined(eval_batches):
            passes.run("fresh", batch)
    found = Measurement(
        list(layers.values()),
        count,
        samples,
        passes.has_noise,
        list(passes.always_on),
        eval_batches is not None,
    )
    found.layers.sort(key=passes.depth)
    _check_finite(model, found.layers)
    return found


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
            clean_sums[layer.name].append(sums.sums)
            return sums

        with Follower(self.model, only_names=True) as finder:
            clean = self._run("clean", batch, lambda layer: partial(look_clean, layer))
        self.always_on |= finder.found
        follower = Follower(self.model, ignored=frozenset(self.always_on))

        def look_train(layer: Layer, x: Tensor) -> None:
            self._order.setdefault(layer.name, len(self._order))
            train_sums[layer.name].append(layer.train.update(x).sums)
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


def _check_finite(model: nn.Module, layers: list[Layer]) -> None:
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise AuditError(
                f"The model has NaN or infinite numbers in {name}: there is nothing sound to measure."
            )
    for layer in layers:
        for mode in MODES:
            moments = getattr(layer, mode)
            if moments.seen and not torch.isfinite(moments.mean).all():
                raise AuditError(
                    f"NaN or infinite numbers reach the BN layer {layer.name} first, in {MODES[mode].words}."
                )
