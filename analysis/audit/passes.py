"""Measuring a model's BN layers in three modes, batch by batch, without changing the model.

Each batch runs once in each mode, so that a stream that can be read only once serves. On one batch in 16 the
train pass is followed operation by operation, see `follow`; where no noise reaches a BN layer on these, the
clean pass would show what the train pass does, and is left out on the others.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from analysis.audit.batches import AuditError, Forward, call, join_leftovers, size_of, tensors_in
from analysis.audit.follow import Follower
from analysis.audit.forward import MODES, Caller, Layer, Look, Modes, Moments, look_at_inputs
from analysis.audit.moments import SampleSums
from analysis.audit.preserve import norm_layers, unchanged, unwrapped

FOLLOWED = 16  # one batch in this many is followed


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
    model = unwrapped(model)
    layers = {name: Layer(name, norm) for name, norm in norm_layers(model).items()}
    count = samples = 0
    with unchanged(model), torch.compiler.set_stance("force_eager"):  # compiled code cannot be followed
        passes = Passes(model, layers, forward or call)
        torch.manual_seed(seed)
        with look_at_inputs(layers.values(), passes.look):
            for count, batch in enumerate(join_leftovers(batches), 1):
                if (count - 1) % FOLLOWED == 0:
                    passes.follow(batch)
                else:
                    passes.train_and_clean(batch)
                passes.eval("eval", batch)
                samples += size_of(batch)
            if not count:
                raise AuditError(
                    "There are no batches to run the model on; an iterator can be read only once."
                )
            for batch in () if eval_batches is None else join_leftovers(eval_batches):
                passes.eval("fresh", batch)
    measurement = Measurement(
        list(layers.values()),
        count,
        samples,
        passes.has_noise,
        list(passes.always_on),
        eval_batches is not None,
    )
    measurement.layers.sort(key=passes.depth)
    _check_finite(model, measurement.layers)
    return measurement


def _check_finite(model: nn.Module, layers: list[Layer]) -> None:
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        # A sum tells most at little cost.
        if not tensor.is_floating_point() or math.isfinite(tensor.sum().item()):
            continue
        if not torch.isfinite(tensor).all():
            raise AuditError(
                f"The model has NaN or infinite numbers in {name}: there is nothing sound to measure."
            )
    for layer in layers:
        for mode in MODES:
            moments = getattr(layer, mode)
            if not moments.samples:
                continue
            if not math.isfinite(moments.layer_mean):
                raise AuditError(
                    f"NaN or infinite numbers reach the BN layer {layer.name} first, in {MODES[mode].words}."
                )
            if not math.isfinite(moments.layer_variance):
                raise AuditError(
                    f"Numbers too large to be squared reach the BN layer {layer.name} first, "
                    f"in {MODES[mode].words}."
                )


class Passes:
    """The passes of batches through a model, and what they showed of its noise.

    Every BN layer's input has to be given to `look`, see `forward.look_at_inputs`.
    """

    def __init__(self, model: nn.Module, layers: dict[str, Layer], forward: Forward):
        self.model, self.layers = model, layers
        self._call = Caller(model, forward)
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
        """The train pass, and the clean pass if noise reaches BN; a layer without noise counts once."""
        train_moments: dict[str, list[Moments | None]] = defaultdict(list)

        def look_train(layer: Layer, x: Tensor) -> Moments | None:
            layer.train.update(x)
            moments = layer.train.batch_moments()
            if not layer.is_noisy:
                train_moments[layer.name].append(moments)
            return moments

        def look_clean(layer: Layer, x: Tensor) -> Moments | None:
            if layer.is_noisy:
                layer.clean.update(x)
                return layer.clean.batch_moments()
            return train_moments[layer.name].pop(0) if train_moments[layer.name] else None

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
            self.always_on |= follower.noise_names
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
        self.has_noise |= is_noisy or bool(follower.noise_names) or not _agree(noisy, clean)

    def _run(self, mode: str, batch: Any, look: Look) -> Any:
        self._modes.set(MODES[mode].norms_train, MODES[mode].noise_on)
        self._look = look
        return self._call(batch, MODES[mode].words)


def _agree(first: Any, second: Any) -> bool:
    """Whether two outputs of the model are the same but for rounding."""
    return all(
        a.shape == b.shape and bool((a - b).abs().max() <= 1e-3 * a.abs().max())
        for a, b in zip(tensors_in(first), tensors_in(second), strict=False)
        if a.is_floating_point() and a.numel()
    )
