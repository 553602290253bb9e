"""Looking at every BN layer's input in three modes, batch by batch, without changing the model.

    train    BN normalises by its batch, noise on
    clean    BN normalises by its batch, noise off
    eval     BN normalises by what it stored, noise off

Each batch runs once in each mode (twice where no noise is found), so that a stream that can be read only once
serves. On every eighth batch the train pass is followed operation by operation, see `follow`.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from analysis.audit.batches import AuditError, Forward, call, no_single_samples, size_of
from analysis.audit.follow import Follower
from analysis.audit.preserve import norm_layers, set_modes, unchanged
from analysis.audit.statistics import GroupedMoments

FOLLOWED = 8  # one batch in this many is followed


@dataclass
class Layer:
    """What was seen of one BN layer. `train` to `fresh` are moments of its input, [channels]."""

    name: str
    norm: _BatchNorm
    calls: int = 0  # per forward in train mode
    train: GroupedMoments = field(default_factory=GroupedMoments)
    clean: GroupedMoments = field(default_factory=GroupedMoments)
    eval: GroupedMoments = field(default_factory=GroupedMoments)
    fresh: GroupedMoments = field(default_factory=GroupedMoments)  # eval mode, on the evaluation batches
    noisy_part: GroupedMoments = field(default_factory=GroupedMoments)  # as `train`, of the followed batches
    local_part: GroupedMoments = field(
        default_factory=GroupedMoments
    )  # the same without the layer's own noise
    added: GroupedMoments = field(
        default_factory=GroupedMoments
    )  # variance that the exact law says noise adds
    own: dict[str, None] = field(default_factory=dict)  # names of its own noise, in order
    upstream: dict[str, None] = field(default_factory=dict)
    is_followed: bool = True  # every noise of its own could be followed to it
    has_law: bool = True  # and the exact law holds on the way


@dataclass
class Measurement:
    """All layers in the order of the forward pass, and what the batches were."""

    layers: list[Layer]
    batches: int
    samples: int
    has_noise: bool
    has_eval_batches: bool
    stored_mean: dict[str, Tensor | None]
    stored_var: dict[str, Tensor | None]


@torch.no_grad()
def measure(
    model: nn.Module, batches: Iterable, eval_batches: Iterable | None, forward: Forward | None, seed: int
) -> Measurement:
    """Run the passes; the model and all random generators are as before, also after an error.

    Raises AuditError, in a plain sentence, where there is nothing to audit or the model cannot be run.
    """
    model = getattr(model, "_orig_mod", model)  # inside torch.compile: its calls cannot be followed
    forward = forward or call
    layers = {name: Layer(name, norm) for name, norm in norm_layers(model).items()}
    order: dict[str, None] = {}
    count = samples = 0
    has_noise = True
    with unchanged(model):
        torch.manual_seed(seed)
        for index, batch in enumerate(no_single_samples(batches)):
            set_modes(model, norms_train=True, noise_on=True)
            if index % FOLLOWED == 0:
                has_noise = _followed_pass(model, batch, layers, order, forward) or (index > 0 and has_noise)
            else:
                _pass(model, batch, layers, "train", forward)
            if has_noise:
                set_modes(model, norms_train=True, noise_on=False)
                _pass(model, batch, layers, "clean", forward)
            set_modes(model, norms_train=False, noise_on=False)
            _pass(model, batch, layers, "eval", forward)
            count, samples = count + 1, samples + size_of(batch)
        if not count:
            raise AuditError("There are no batches to run the model on.")
        set_modes(model, norms_train=False, noise_on=False)
        for batch in eval_batches or ():
            _pass(model, batch, layers, "fresh", forward)
    ordered = [layers[name] for name in [*order, *(name for name in layers if name not in order)]]
    _check_finite(model, ordered)
    return Measurement(
        ordered,
        count,
        samples,
        has_noise,
        eval_batches is not None,
        {layer.name: layer.norm.running_mean for layer in ordered},
        {layer.name: layer.norm.running_var for layer in ordered},
    )


def _pass(model: nn.Module, batch: Any, layers: dict[str, Layer], mode: str, forward: Forward) -> None:
    def look(layer: Layer, x: Tensor) -> None:
        getattr(layer, mode).update(x)

    with inputs_seen(layers, look):
        run(forward, model, batch, mode)


def _followed_pass(
    model: nn.Module, batch: Any, layers: dict[str, Layer], order: dict[str, None], forward: Forward
) -> bool:
    """The train pass with its noise followed; tells whether there is any."""
    follower = Follower(model)
    calls = dict.fromkeys(layers, 0)

    def look(layer: Layer, x: Tensor) -> None:
        order.setdefault(layer.name)
        calls[layer.name] += 1
        layer.train.update(x)
        trail = follower.trail(x)
        if trail is None:
            return
        layer.upstream |= dict.fromkeys(sorted(trail.upstream))
        if not trail.links:
            return
        layer.own |= dict.fromkeys(link.name for link in trail.links.values())
        if trail.clean is None or trail.clean.shape != x.shape:
            layer.is_followed = layer.has_law = False
            return
        layer.noisy_part.update(x)
        layer.local_part.update(trail.clean)
        added = [link.added_variance() for link in trail.links.values()]
        if any(part is None or part.shape != x.shape for part in added):
            layer.has_law = False
        else:
            layer.added.update(torch.stack(added).sum(0))  # type: ignore[arg-type]

    with inputs_seen(layers, look), follower:
        run(forward, model, batch, "train")
    for name, number in calls.items():
        layers[name].calls = max(layers[name].calls, number)
    return follower.has_seen_noise


@contextmanager
def inputs_seen(layers: dict[str, Layer], look: Callable[[Layer, Tensor], None]) -> Iterator[None]:
    """Call `look(layer, x)` with every input x of every BN layer."""
    with contextlib.ExitStack() as stack:
        for layer in layers.values():

            def hook(_: nn.Module, args: tuple, kwargs: dict, layer: Layer = layer) -> None:
                with torch._C.DisableTorchFunction():
                    look(layer, args[0] if args else kwargs["input"])

            stack.callback(layer.norm.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield


def run(forward: Forward, model: nn.Module, batch: Any, mode: str) -> Any:
    """Call the model; its failure becomes a sentence."""
    try:
        return forward(model, batch)
    except AuditError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        words = {"train": "train mode", "clean": "train mode without noise", "eval": "eval mode"}
        raise AuditError(
            f"The model's forward failed in {words.get(mode, 'eval mode')}: {type(error).__name__}: {reason}"
        ) from error


def _check_finite(model: nn.Module, layers: list[Layer]) -> None:
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise AuditError(
                f"The model has NaN or infinite numbers in {name}: there is nothing sound to measure."
            )
    for layer in layers:
        for mode in ("train", "clean", "eval", "fresh"):
            moments = getattr(layer, mode)
            if moments.seen and not torch.isfinite(moments.mean).all():
                raise AuditError(
                    f"NaN or infinite numbers reach the BN layer {layer.name} first (in {mode} mode)."
                )
