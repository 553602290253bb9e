"""Measuring a model's BN layers in all modes, batch by batch, without changing the model.

Each batch runs once in each mode, so that a stream that can be read only once serves. On one batch in 16 the
train pass is followed operation by operation, see `follow`; where no noise reaches a BN layer on these, and
nothing else differs between train and eval mode but the statistics, the passes between these would show what the
train pass does, and are left out on the others.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .batches import AuditError, Forward, Size, call, tensors_in
from .chain import known_chain
from .checkpointing import is_checkpointed
from .follow import Follower
from .forward import Layer, Moments, Runner
from .leftovers import Batches
from .modes import Modes
from .moments import GroupedMoments, SampleSums
from .network import norm_layers, unwrapped
from .norms import CallsOnBuffers, Norms, buffers_of, candidates, moved, tried
from .places import Calls, parting
from .preserve import Snapshot, unchanged
from .sound import check_measured, check_stored

FOLLOWED = 16  # one batch in this many is followed
REPEATS = 8  # of a pass that may hold noise from outside all generators, of which few values may be possible


@dataclass
class Findings:
    """What the passes showed beside the moments of the layers."""

    has_noise: bool = False
    # Noise that evaluation has too, by name, and whether its module is on after `eval()`.
    always_on: dict[str, bool] = field(default_factory=dict)
    undone: dict[str, str] = field(default_factory=dict)  # see `Modes`
    differs: bool = False  # something is not the same in both modes, which is neither noise nor what norms do
    branches: tuple[str, ...] = ()  # the modules in which that begins
    has_fast_path: bool = False  # it is torch's fast path for transformers, or that too
    moving: dict[str, list[str]] = field(
        default_factory=dict
    )  # by norm, its buffers that change in eval mode too


@dataclass
class Measurement:
    """All layers in the order of the forward pass, and what the batches were."""

    layers: list[Layer]
    batches: int
    samples: int
    left_out: int  # single samples that no batch could take
    has_eval_batches: bool
    findings: Findings
    norms: Norms  # what of the model works like BN, and is none of torch's
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
    count = samples = 0
    with (
        unchanged(model, batches, eval_batches) as state,
        torch.compiler.set_stance("force_eager"),  # compiled code cannot be followed
    ):
        modes = Modes(model)
        state.restore(thorough=modes.has_own)
        chain = known_chain(model) if forward is None and not modes.has_own else None
        state.generators.seed(seed)
        for layer in layers.values():
            layer.is_tracked = (
                getattr(layer.norm, "track_running_stats", True) or layer.norm.running_var is None
            )
        passes = Passes(model, layers, modes, forward or call, state)
        train_batches = Batches(batches, size)
        fresh_batches = None if eval_batches is None else Batches(eval_batches, size)
        for count, batch in enumerate(train_batches, 1):
            in_batch = train_batches.size_of(batch)
            if chain is not None:
                chain.note(batch)
            if count == 1:
                passes.find_norms(batch)
            if (count - 1) % FOLLOWED == 0:
                passes.follow(batch)
            else:
                passes.train_to_plain(batch)
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
        eval_batches is not None,
        passes.findings,
        passes.norms,
        {} if chain is None else chain.predicted(),
    )
    measurement.layers.sort(key=passes.depth)
    check_measured(model, measurement.layers)
    return measurement


class Passes:
    """The passes of batches through a model, and what they showed of its noise."""

    def __init__(
        self, model: nn.Module, layers: dict[str, Layer], modes: Modes, forward: Forward, state: Snapshot
    ):
        self.model, self.layers = model, layers
        self._modes, self._generators = modes, state.generators
        self._run = Runner(model, layers.values(), modes, forward, state)
        self.findings, self.norms = Findings(undone=modes.undone), Norms()
        self._others = candidates(model)
        self._has_hidden_noise = False
        self._order: dict[str, int] = {}

    def find_norms(self, batch: Any) -> None:
        """Find what works like BN and is none of torch's, and audit it too where its statistics can be told."""
        calls = CallsOnBuffers(self.model)
        if not (self._others or calls):
            return
        with tried(self._others) as norms, calls:
            self._run("train", batch, lambda *_: None)
        self.norms = norms
        norms.functional |= calls.found
        for name, norm in norms.readable.items():
            self.layers[name] = Layer(name, norm)
        for name in norms.always_batch:
            self.layers[name].keeps = "train"
        self._modes.add_norms(norms.modules)
        self._run.layers = list(self.layers.values())

    def depth(self, layer: Layer) -> int:
        """The layer's place in the order of the forward pass; layers that nothing reaches come last."""
        return self._order.get(layer.name, len(self.layers))

    def eval(self, mode: str, batch: Any, samples: int = 0) -> None:
        """A pass in eval mode, for the stream `eval` or `fresh`, of a batch of so many samples."""
        met = set()

        def look(layer: Layer, x: Tensor) -> None:
            stream: GroupedMoments = getattr(layer, mode)
            if not stream.batches and layer.norm.training:
                layer.keeps = "train"
            sums = stream.sums_of(x)
            # Of rows that are no samples, as of time steps in a row, it is unknown which belong together.
            is_sample = len(x) == samples and not getattr(layer.norm, "per_sample", False)
            if mode == "eval" and is_sample and layer.name not in met:
                met.add(layer.name)
                layer.spread.add(sums)
            stream.add(sums)

        if mode == "eval" and not self._run.passes[mode]:
            before = {name: buffers_of(module) for name, module in self._others.items()}
            self._run(mode, batch, look, lambda: self._note_moving(before))
        else:
            self._run(mode, batch, look)

    def _note_moving(self, before: dict[str, dict[str, Tensor]]) -> None:
        self.findings.moving = {
            name: names for name, module in self._others.items() if (names := moved(module, before[name]))
        }

    def train_to_plain(self, batch: Any) -> None:
        """The train pass, and those between it and eval mode that show something else."""
        last: dict[str, list[Moments | None]] = {}  # of each layer's calls, in the last pass that was its own
        for mode in ("train", "clean", "plain"):
            if mode != "train" and not any(layer.has_stream(mode) for layer in self.layers.values()):
                continue
            now: dict[str, list[Moments | None]] = defaultdict(list)

            def look(layer: Layer, x: Tensor, mode=mode, now=now, last=last) -> Moments | None:
                if mode == "train":
                    layer.note_step(x)
                if layer.has_stream(mode):
                    stream = layer.stream(mode)
                    stream.update(x)
                    moments = stream.batch_moments()
                else:  # the same as before
                    calls = last.get(layer.name, ())
                    moments = calls[len(now[layer.name])] if len(now[layer.name]) < len(calls) else None
                now[layer.name].append(moments)
                return moments

            if mode == "train":
                self._start_steps()
            self._run(mode, batch, look)
            last = now

    def follow(self, batch: Any) -> None:
        """The passes from train to eval mode, compared, and the train pass with its noise followed."""
        follower, generators = Follower(self.model), self._generators
        start = generators.states()
        with follower:
            plain = self._pass("plain", batch)
        always_on, drawn_plain = dict(follower.noise_names), generators.drawn_since(start)
        self.findings.always_on |= {
            name: any(map(self._modes.stays_on, modules)) for name, modules in follower.noisy.items()
        }
        for name, sums in plain.sums.items():
            self.layers[name].calls = max(self.layers[name].calls, len(sums))
        follower.follow(ignored=frozenset(self.findings.always_on))
        before = generators.states()
        with follower:
            train = self._pass("train", batch, follower)
        drawn = generators.drawn_since(before)
        after = generators.states()
        if self._modes.freeze(
            layer.module for layer in self.layers.values() if self._note_frozen(layer, train)
        ):
            generators.give_back(start)
            plain = self._pass("plain", batch)
        if self._run.has_fast_path:  # which nothing takes that is followed
            generators.give_back(start)
            slow, plain = plain, self._pass("plain", batch)
            self.findings.has_fast_path |= not plain.agrees_with(slow)

        clean = train
        new_noise = {name: modules for name, modules in follower.noisy.items() if name not in always_on}
        if new_noise or drawn - drawn_plain or not train.agrees_with(plain):
            noisy = set().union(*new_noise.values())
            others = noisy & follower.not_by_calls
            if self.findings.always_on:  # whose calls must not be quiet
                others, self._modes.has_quiet_calls = noisy, False
            self._modes.switch_off(others, only_calls=False)
            self._modes.switch_off(noisy - others, only_calls=True)
            unknown = (
                drawn - drawn_plain - ({"torch"} if new_noise else set())
            )  # of numpy, Python or no known call
            clean = self._hide(plain) if unknown else self._clean_pass(batch, plain, drawn_plain, start)
            if clean is not plain and not clean.agrees_with(plain) and not self.findings.always_on:
                # Whatever differs from the plain pass must be the same each time, or it is noise without a name.
                same = bool(new_noise) or clean.is_same_as(train)
                generators.give_back(after)
                for _ in range(REPEATS):
                    same = same and clean.is_same_as(self._pass("clean", batch))
                clean = clean if same else self._hide(plain)
        generators.give_back(after)

        # Nobody sees where numbers go that numpy and Python draw, or torch without an operation that is known.
        followed = {"torch"} if follower.noise_names and not follower.has_lost_draws else set()
        may_reach_all = bool(drawn - drawn_plain - followed) or follower.has_lost_draws
        for name, layer in self.layers.items():
            layer.calls = max(layer.calls, len(train.sums[name]))
            is_noisy = (
                may_reach_all or name in train.reached or not _agree(train.sums[name], clean.sums[name])
            )
            if is_noisy and not layer.is_noisy:
                layer.clean = layer.train.copy()  # both were the same until now
                layer.is_noisy = True
            if not _agree(clean.sums[name], plain.sums[name]) and not layer.is_branched:
                layer.plain = layer.stream("clean").copy()
                layer.is_branched = True
            for mode, found in (("train", train), ("clean", clean), ("plain", plain)):
                if layer.has_stream(mode):
                    for sums in found.sums[name]:
                        getattr(layer, mode).add(sums)
        is_noisy = any(layer.is_noisy for layer in self.layers.values())
        self.findings.has_noise |= is_noisy or bool(follower.noise_names) or not train.agrees_with(clean)
        if not self.findings.differs and not clean.agrees_with(plain):
            self.findings.differs = True
            self.findings.branches = self._branches(batch, start)
            generators.give_back(after)

    def _clean_pass(self, batch: Any, plain: "_Pass", drawn_plain: set[str], start: list[Any]) -> "_Pass":
        """The pass with noise off; the plain one where there is noise that cannot be switched off by itself.

        It begins with the random numbers of the plain pass, so that noise that evaluation has too is the same.
        """
        if self._has_hidden_noise:
            return plain
        self._generators.give_back(start)
        follower = Follower(self.model)
        with follower:
            clean = self._pass("clean", batch)
        is_hidden = self._generators.drawn_since(start) - drawn_plain
        is_hidden |= follower.noise_names.keys() - self.findings.always_on
        return self._hide(plain) if is_hidden else clean

    def _hide(self, plain: "_Pass") -> "_Pass":
        """Note that there is noise of which nobody knows where it is made."""
        self._has_hidden_noise = True
        self._modes.switch_all_off()
        return plain

    def _pass(self, mode: str, batch: Any, follower: Follower | None = None) -> "_Pass":
        """Run a pass whose sums are kept; `follower`: what it finds out of each layer's input is noted."""
        found = _Pass()

        def look(layer: Layer, x: Tensor) -> Moments | None:
            stream = layer.stream(mode)
            found.sums[layer.name].append(stream.sums_of(x).copy())
            found.in_train_mode[layer.name] |= layer.norm.training
            if mode == "train":
                layer.is_checkpointed |= is_checkpointed()
                layer.note_step(x)
            if follower is not None:
                self._order.setdefault(layer.name, len(self._order))
                if trail := follower.trail(x):
                    found.reached.add(layer.name)
                    layer.note(x, trail)
            return stream.batch_moments()

        if mode == "train":
            self._start_steps()
        found.output = self._run(mode, batch, look)
        return found

    def _start_steps(self) -> None:
        for layer in self.layers.values():
            layer.steps.start()

    def _note_frozen(self, layer: Layer, train: "_Pass") -> bool:
        """Note whether a layer runs in eval mode in train mode too."""
        stores = layer.norm.running_var is not None
        is_frozen = stores and bool(train.sums[layer.name]) and not train.in_train_mode[layer.name]
        if is_frozen:
            layer.keeps = "eval"
        return is_frozen

    def _branches(self, batch: Any, start: list) -> tuple[str, ...]:
        """The modules where train mode without noise and the plain mode part."""
        calls = []
        for mode in ("clean", "plain"):
            self._generators.give_back(start)
            calls.append(Calls(self.model))
            with calls[-1].noted():
                self._run(mode, batch, lambda *_: None)
        return tuple(parting(*calls))


class _Pass:
    """What one pass showed."""

    def __init__(self) -> None:
        self.sums: dict[str, list[SampleSums]] = defaultdict(list)  # of each layer's calls
        self.in_train_mode: dict[str, bool] = defaultdict(bool)  # whether it was, in any call
        self.reached: set[str] = set()  # layers that noise reached which was followed
        self.output: Any = None

    def agrees_with(self, other: "_Pass") -> bool:
        """Whether both are the same but for rounding."""
        return _agree(self.output, other.output) and all(
            _agree(sums, other.sums[name]) for name, sums in self.sums.items()
        )

    def is_same_as(self, other: "_Pass") -> bool:
        """Whether both are the same, bit for bit."""
        mine, others = (tensors_in([found.output, *found.sums.values()]) for found in (self, other))
        return len(mine) == len(others) and all(map(torch.equal, mine, others))


def _agree(first: Any, second: Any) -> bool:
    """Whether two outputs of the model are the same but for rounding."""
    return all(
        a.shape == b.shape and bool((a - b).abs().max() <= 1e-3 * a.abs().max())
        for a, b in zip(tensors_in(first), tensors_in(second), strict=False)
        if a.is_floating_point() and a.numel()
    )
