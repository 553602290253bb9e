"""Measuring a model's BN layers in three modes, batch by batch, without changing the model.

Each batch runs once in each mode, so that a stream that can be read only once serves. On one batch in 16 the
train pass is followed operation by operation, see `follow`; where no noise reaches a BN layer on these, the
clean pass would show what the train pass does, and is left out on the others.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from analysis.audit.batches import AuditError, Forward, call, leftovers_joined, size_of
from analysis.audit.inputs import inputs_seen
from analysis.audit.layer import Layer
from analysis.audit.passes import MODES, Passes
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
        with inputs_seen(layers.values(), passes.look):
            for count, batch in enumerate(leftovers_joined(batches), 1):
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
            for batch in () if eval_batches is None else leftovers_joined(eval_batches):
                passes.eval("fresh", batch)
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
            if not moments.seen:
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
