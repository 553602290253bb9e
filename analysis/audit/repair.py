"""Repairs: other noise instead of Dropout, BN statistics without noise, and what they do to the user's metric."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from .. import theory
from ..theory.noises import DROPOUT, FAMILIES, family, standard_normal
from .batches import AuditError, Forward, Size, call, labels_of, reason, scores_of
from .forward import Caller, Layer, Moments, Runner
from .leftovers import Batches
from .modes import Modes
from .network import norm_layers, unwrapped
from .norms import candidates, tried
from .preserve import copied, unchanged

FROZEN = ("keep", "adjust")
Metric = Callable[[nn.Module, Iterable[Any]], float]

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class MultiplicativeNoise(nn.Module):
    """m * x in train mode, x in eval mode; E[m] = 1, Var(m) = `noise_variance`.

    `noise` is a family of `analysis.theory.noises` other than dropout.
    `per_channel`: one factor for all positions of a channel (dimensions from the third on), as Dropout2d has.
    """

    def __init__(self, noise: str, noise_variance: float, per_channel: bool = False):
        super().__init__()
        others = [name for name in FAMILIES if name != DROPOUT.name]
        if noise not in others:
            raise AuditError(f"noise={noise}: allowed is {' or '.join(others)}.")
        try:
            self.strength = theory.strength_for(noise, noise_variance)
        except ValueError as error:
            raise AuditError(f"{error}.") from None
        self.noise, self.noise_variance, self.per_channel = noise, noise_variance, per_channel

    def forward(self, x: Tensor) -> Tensor:
        """Return m * x, shaped as x [batch, channels, *positions]."""
        if not self.training or self.strength == 0:
            return x
        shape = (*x.shape[:2], *(1 for _ in x.shape[2:])) if self.per_channel else x.shape
        noise = family(self.noise)
        if noise.inverse_cdf is standard_normal:  # torch draws these itself, in any precision
            offset, slope, _, _ = noise.factor_numbers(self.strength)
            return x * (offset + slope * torch.randn(shape, dtype=x.dtype, device=x.device))
        # A uniform draw of half precision would be 0 or 1 too often for the tails of a law.
        uniform = torch.rand(shape, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
        return x * noise.factor(uniform, self.strength).to(x.dtype)

    def extra_repr(self) -> str:
        """Return the settings, as a module is printed."""
        return f"{self.noise}, noise_variance={self.noise_variance:g}, per_channel={self.per_channel}"


def replace_noise(model: nn.Module, noise: str = "uout", noise_variance: float | None = None) -> nn.Module:
    """Return a copy of the model with every Dropout module replaced; the model itself stays as it is.

    Args:
        model: any module; its Dropout, Dropout1d, 2d and 3d are replaced, 1d to 3d by noise per channel.
        noise: uout or gaussian.
        noise_variance: of the new noise; None keeps each module's own, rate / (1 - rate). Uout reaches 1/3 at
            most, which is dropout 0.25. The paper's Uout beta = 0.1 has 0.0033.

    Raises:
        AuditError: if there is no such module (functional dropout cannot be replaced from outside), if the
            noise cannot have that variance, or if the model cannot be copied.

    The copy's weights are trained for the old noise: train it on, then `adjust` it.
    """
    other = copied(model)
    replacements: dict[int, MultiplicativeNoise] = {}
    for parent in list(other.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, _DROPOUTS):
                new = replacements.setdefault(id(module), _replacement_for(module, noise, noise_variance))
                setattr(parent, name, new.train(module.training))
    if not replacements:
        raise AuditError(
            "The model has no Dropout module to replace; "
            "a functional dropout has to be changed where it is called."
        )
    return other


def _replacement_for(module: nn.Module, noise: str, noise_variance: float | None) -> MultiplicativeNoise:
    rate = float(module.p)  # type: ignore[arg-type]
    own = theory.noise_variance("dropout", rate) if rate < 1 else math.inf
    wanted = own if noise_variance is None else noise_variance
    return MultiplicativeNoise(noise, wanted, per_channel=not isinstance(module, nn.Dropout))


@torch.no_grad()
def adjust(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    forward: Forward | None = None,
    frozen: str = "keep",
    size: Size | None = None,
) -> nn.Module:
    """Give every BN layer the statistics of `batches` without noise, in place; return the model.

    The paper's BN adjustment, joint: BN normalises by its batch and everything else is as in eval mode, so that
    each layer's statistics are taken behind layers that are adjusted already. (`torch.optim.swa_utils.update_bn`
    leaves the noise on, and with it the shift.) Moments are pooled exactly over all samples of all batches, of any
    sizes, and written at the end; one pass, constant memory, on the model's device. Counters grow by the number of
    batches; everything else that the model holds is put back, see `preserve`, and after an error the statistics
    too.

    Args:
        model: any module with BN, or with other modules that store running averages.
        batches: training data, in batches of the size of training; see `audit`.
        forward: `forward(model, batch)`, where calling the model is not as plain as that.
        frozen: what becomes of layers that are in eval mode after `model.train()` too: "keep" leaves what they
            store, and has them normalise by it; "adjust" treats them as all others.
        size: `size(batch)`, see `audit`.

    Raises:
        AuditError: in a plain sentence, if there is nothing to adjust or the model fails.
    """
    if frozen not in FROZEN:
        raise AuditError(f"frozen={frozen}: allowed is {' or '.join(FROZEN)}.")
    inner = unwrapped(model)
    layers = {
        name: Layer(name, norm) for name, norm in norm_layers(inner).items() if norm.running_var is not None
    }
    others = candidates(inner)
    if not (layers or others):
        raise AuditError(
            "All BN layers have track_running_stats=False: they store nothing that could be adjusted."
            if norm_layers(inner)
            else "The model has no BatchNorm layer, nor anything else that stores statistics: nothing to adjust."
        )
    count, kept = 0, set()

    def look(layer: Layer, x: Tensor) -> Moments | None:
        if layer.name in kept:
            return None
        layer.module.__dict__["training"] = True  # also where a hook froze it
        layer.clean.update(x)
        return layer.clean.batch_moments()

    with unchanged(inner, batches) as state:
        modes = Modes(inner)
        state.restore(thorough=modes.has_own)
        run = Runner(inner, layers.values(), modes, forward or call, state)
        for count, batch in enumerate(Batches(batches, size), 1):
            if count == 1:
                with tried(others) as norms:
                    kept = _frozen_layers(run, batch)
                layers |= {name: Layer(name, norm) for name, norm in norms.readable.items()}
                run.layers = list(layers.values())
                modes.add_norms(norms.modules)
                if frozen == "keep":
                    modes.freeze(layers[name].module for name in kept)
                else:
                    modes.unfreeze(layers[name].module for name in kept)
                    kept = set()
            run("plain", batch, look)
    if not count:
        raise AuditError("There are no batches to run the model on; an iterator can be read only once.")
    if not (kept or any(layer.clean.samples for layer in layers.values())):
        raise AuditError("No batch reaches a BN layer that stores statistics: nothing was adjusted.")
    for layer in layers.values():
        if layer.clean.samples and not torch.isfinite(layer.clean.variance).all():
            raise AuditError(
                f"NaN or infinite numbers reach the BN layer {layer.name}: nothing was adjusted."
            )
    for layer in layers.values():
        if layer.clean.samples:
            layer.norm.running_mean.copy_(layer.clean.mean)  # type: ignore[union-attr]
            layer.norm.running_var.copy_(layer.clean.variance)  # type: ignore[union-attr]
            if layer.norm.num_batches_tracked is not None:
                layer.norm.num_batches_tracked.add_(count)
    return model


def _frozen_layers(run: Runner, batch: Any) -> set[str]:
    """The names of layers that are in eval mode whenever train mode calls them."""
    modes: dict[str, set[bool]] = {}

    def look(layer: Layer, _: Tensor) -> None:
        modes.setdefault(layer.name, set()).add(layer.norm.training)

    run("train", batch, look)
    return {name for name, seen in modes.items() if seen == {False}}


@torch.no_grad()
def accuracy(model: nn.Module, batches: Iterable[Any], *, forward: Forward | None = None) -> float:
    """Percentage of right classes, of samples or pixels, in the model's present mode; nan without such labels."""
    right = right_classes(model, batches, forward)
    return math.nan if right is None else 100 * float(right.double().mean())


@torch.no_grad()
def right_classes(model: nn.Module, batches: Iterable[Any], forward: Forward | None = None) -> Tensor | None:
    """Say of each sample, or pixel, whether its class is right; None without class labels, see `accuracy`."""
    right: list[Tensor] = []
    caller = Caller(model, forward or call)
    for batch in Batches(batches):
        labels = labels_of(batch)
        scores = None if labels is None else scores_of(caller(batch, "its present mode"), labels)
        if scores is None or labels is None:
            return None
        right.append((scores.argmax(1) == labels.to(scores.device)).flatten().cpu())
    return torch.cat(right) if right else None


@torch.no_grad()
def compare(
    models: Mapping[str, nn.Module],
    batches: Iterable[Any],
    metric: Metric = accuracy,
    *,
    forward: Forward | None = None,
) -> pd.DataFrame:
    """A row per model with the metric in train mode and in eval mode; what the models hold is put back.

    The modes are what the model's own `train()` and `eval()` make of it, but for BN's statistics, which stay.

    Args:
        models: by the name of their row, for example {"before": model, "after": adjusted}.
        batches: read once per model and mode, hence a list or a loader.
        metric: `metric(model, batches)`, which must leave the mode alone; no gradients are kept. By default the
            accuracy in per cent.
        forward: `forward(model, batch)` for a metric that takes one, as `accuracy` does.

    Raises:
        AuditError: if the batches can be read only once, or the metric fails.
    """
    if isinstance(batches, Iterator):
        raise AuditError("An iterator can be read only once: give a list of batches or a DataLoader.")
    if forward is not None:
        metric = functools.partial(metric, forward=forward)  # type: ignore[call-arg]
    rows: list[dict[str, str | float]] = []
    for name, model in models.items():
        row: dict[str, str | float] = {"model": name}
        for mode in ("train", "eval"):
            with unchanged(model, batches):
                Modes(model).set(mode)
                row[f"{mode}_mode"] = value_of(metric, model, batches)
        rows.append(row)
    return pd.DataFrame(rows)


def value_of(metric: Metric, model: nn.Module, batches: Iterable[Any]) -> float:
    """Return the metric of a model in its present mode; raise AuditError where it fails."""
    try:
        return float(metric(model, batches))
    except AuditError:
        raise
    except Exception as error:  # the user's function may raise anything
        raise AuditError(f"The metric failed: {reason(error)}") from error
