"""Measuring a model's BN layers in three modes, batch by batch, without changing the model.

Each batch runs once in each mode, so that a stream that can be read only once serves. On one batch in 16 the
train pass is followed operation by operation, see `follow`; where no noise reaches a BN layer on these, the
clean pass would show what the train pass does, and is left out on the others.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .batches import AuditError, Forward, Size, call, tensors_in
from .chain import known_chain
from .checkpointing import is_checkpointed
from .follow import Follower
from .forward import Layer, Look, Moments, Runner
from .leftovers import Batches
from .moments import GroupedMoments, SampleSums
from .network import norm_layers, unwrapped
from .preserve import Snapshot, unchanged
from .sound import check_measured, check_stored

FOLLOWED = 16  # one batch in this many is followed


@dataclass
class Measurement:
    """All layers in the order of the forward pass, and what the batches were."""

    layers: list[Layer]
    batches: int
    samples: int
    left_out: int  # single samples that no batch could take
    has_noise: bool
    always_on: list[str]  # names of noise that is on in eval mode too
    has_eval_batches: bool
    predicted: dict[
        str, float
    ]  # by the closure, the shift ratio of BN layers by name; empty for most networks


@torch.no_grad()
def measure(
    model: nn.Module,
    batches: Iterable,
    eval_batches: Iterable | None,
    forward: Forward | None,
    seed: int,
    size: Size | None = None,
) -> Measurement:
    """Run the passes; the model and all random generators are as before, also after an error.

    Raises AuditError, in a plain sentence, where there is nothing to audit or the model cannot be run.
    """
    model = unwrapped(model)
    layers = {name: Layer(name, norm) for name, norm in norm_layers(model).items()}
    chain = known_chain(model) if forward is None else None
    count = samples = 0
    with (
        unchanged(model, batches, eval_batches) as state,
        torch.compiler.set_stance("force_eager"),  # compiled code cannot be followed
    ):
        state.generators.seed(seed)
        for layer in layers.values():
            layer.is_tracked = layer.norm.track_running_stats or layer.norm.running_var is None
        passes = Passes(model, layers, forward or call, state)
        train_batches = Batches(batches, size)
        fresh_batches = None if eval_batches is None else Batches(eval_batches, size)
        for count, batch in enumerate(train_batches, 1):
            in_batch = train_batches.size_of(batch)
            if chain is not None:
                chain.note(batch)
            if (count - 1) % FOLLOWED == 0:
                passes.follow(batch)
            else:
                passes.train_and_clean(batch)
            if count == 1:
                check_stored(model, layers.values())
            passes.eval("eval", batch, in_batch)
            samples += in_batch
        if not count:
            raise AuditError("There are no batches to run the model on; an iterator can be read only once.")
        for batch in fresh_batches or ():
            passes.eval("fresh", batch)
    measurement = Measurement(
        list(layers.values()),
        count,
        samples,
        train_batches.left_out + (fresh_batches.left_out if fresh_batches is not None else 0),
        passes.has_noise,
        list(passes.always_on),
        eval_batches is not None,
        {} if chain is None else chain.predicted(),
    )
    measurement.layers.sort(key=passes.depth)
    check_measured(model, measurement.layers)
    return measurement


class Passes:
    """The passes of batches through a model, and what they showed of its noise."""

    def __init__(self, model: nn.Module, layers: dict[str, Layer], forward: Forward, state: Snapshot):
        self.model, self.layers = model, layers
        self._run = Runner(model, layers.values(), forward, state)
        self._generators = state.generators
        self.has_noise = False
        self.always_on: dict[str, None] = {}  # names of the noise that evaluation has too
        self._order: dict[str, int] = {}

    def depth(self, layer: Layer) -> int:
        """The layer's place in the order of the forward pass; layers that nothing reaches come last."""
        return self._order.get(layer.name, len(self.layers))

    def eval(self, mode: str, batch: Any, samples: int = 0) -> None:
        """A pass in eval mode, for the stream `eval` or `fresh`, of a batch of so many samples."""
        met = set()

        def look(layer: Layer, x: Tensor) -> None:
            moments: GroupedMoments = getattr(layer, mode)
            sums = moments.sums_of(x)
            # Of rows that are no samples, as of time steps in a row, it is unknown which belong together.
            if mode == "eval" and len(x) == samples and layer.name not in met:
                met.add(layer.name)
                layer.spread.add(sums)
            moments.add(sums)

        self._run(mode, batch, look)

    def train_and_clean(self, batch: Any) -> None:
        """The train pass, and the clean pass if noise reaches BN; a layer without noise counts once."""
        train_moments: dict[str, list[Moments | None]] = defaultdict(list)

        def look_train(layer: Layer, x: Tensor) -> Moments | None:
            layer.train.update(x)
            if layer.calls > 1:
                layer.steps.add(x)
            moments = layer.train.batch_moments()
            if not layer.is_noisy:
                train_moments[layer.name].append(moments)
            return moments

        def look_clean(layer: Layer, x: Tensor) -> Moments | None:
            if layer.is_noisy:
                layer.clean.update(x)
                return layer.clean.batch_moments()
            return train_moments[layer.name].pop(0) if train_moments[layer.name] else None

        self._start_steps()
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
            layer.is_checkpointed |= is_checkpointed()
            train_sums[layer.name].append(layer.train.sums_of(x).copy())
            if layer.calls > 1:
                layer.steps.add(x)
            if trail := follower.trail(x):
                reached.add(layer.name)
                layer.note(x, trail)
            return layer.train.batch_moments()

        follower = Follower(self.model)
        with follower:
            clean, drawn_clean = self._run_and_watch("clean", batch, look_clean)
        self.always_on |= follower.noise_names
        for name, sums in clean_sums.items():
            self.layers[name].calls = max(self.layers[name].calls, len(sums))
        self._start_steps()
        follower.follow(ignored=frozenset(self.always_on))
        with follower:
            noisy, drawn = self._run_and_watch("train", batch, look_train)
        # Nobody sees where numbers go that numpy and Python draw, or torch without an operation that is known.
        followed = {"torch"} if follower.noise_names and not follower.has_lost_draws else set()
        may_reach_all = bool(drawn - drawn_clean - followed) or follower.has_lost_draws
        for name, layer in self.layers.items():
            layer.calls = max(layer.calls, len(train_sums[name]))
            is_noisy = may_reach_all or name in reached or not _agree(train_sums[name], clean_sums[name])
            if is_noisy and not layer.is_noisy:
                layer.is_noisy = True
                layer.clean = layer.train.copy()  # both were the same until now
            for sums in train_sums[name]:
                layer.train.add(sums)
            for sums in clean_sums[name] if layer.is_noisy else ():
                layer.clean.add(sums)
        is_noisy = any(layer.is_noisy for layer in self.layers.values())
        self.has_noise |= is_noisy or bool(follower.noise_names) or not _agree(noisy, clean)

    def _start_steps(self) -> None:
        for layer in self.layers.values():
            layer.steps.start()

    def _run_and_watch(self, mode: str, batch: Any, look: Look) -> tuple[Any, set[str]]:
        """Run a pass; return its output and the libraries whose random generators it drew from."""
        before = self._generators.states()
        return self._run(mode, batch, look), self._generators.drawn_since(before)


def _agree(first: Any, second: Any) -> bool:
    """Whether two outputs of the model are the same but for rounding."""
    return all(
        a.shape == b.shape and bool((a - b).abs().max() <= 1e-3 * a.abs().max())
        for a, b in zip(tensors_in(first), tensors_in(second), strict=False)
        if a.is_floating_point() and a.numel()
    )
