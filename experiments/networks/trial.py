"""A module of the user's own on trial: whether it can be trained and measured, and where its noise acts.

Where it holds `NoiseSite` modules noise acts there, and nowhere else. Where it holds none they are put in: before
every normalisation layer (`before_bn`), before every weight layer that follows one (`before_weight`), and before
the last linear layer (`after_last_bn`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from analysis.schema import PLACEMENTS
from experiments.checks import ConfigError
from experiments.networks.hearing import NORM, WEIGHT, Pass, find_norm_inputs, watched_pass
from experiments.networks.network import NoiseSite, NormInput
from experiments.targets import bad_target, call_target, said

BATCH = 8  # samples of a trial pass
ALLOWED = "a function build(sample_shape, classes, width, depth, norm) that returns a torch.nn.Module"


@dataclass(frozen=True)
class Layout:
    """What a trial pass found: the sites to put in, by the module that each stands before, and what norms read."""

    put_in: Mapping[str, str]
    norm_inputs: list[NormInput]


def build_module(
    sample_shape: tuple[int, ...], classes: int, target: str, source: str, **options: Any
) -> nn.Module:
    """Return what the target builds; raise ConfigError where it is no module."""
    module = call_target(
        "model", target, source, ALLOWED, sample_shape=sample_shape, classes=classes, **options
    )
    if not isinstance(module, nn.Module):
        raise bad_target("model", target, f"it returns a {type(module).__name__}", ALLOWED)
    return module


@cache
def find_layout(
    sample_shape: tuple[int, ...], classes: int, norm: str, target: str, **options: Any
) -> Layout:
    """Build a network on trial, check it, and find where sites are put in and what its norms read.

    Raises ConfigError, in one line, for whatever could not be trained and measured.
    """
    with torch.random.fork_rng(devices=[]):
        module, again = (
            _seeded(0, lambda: build_module(sample_shape, classes, norm=norm, target=target, **options))
            for _ in range(2)
        )
        trial = _Trial(target, module, (BATCH, *sample_shape), classes)
        trial.check_weights(again)
        trial.check_passes()
        trial.check_norms(norm)
        put_in = {} if any(isinstance(part, NoiseSite) for part in module.modules()) else trial.places()
        put_sites_in(module, put_in)
        return Layout(put_in, find_norm_inputs(module, trial.watched()))


def put_sites_in(module: nn.Module, places: Mapping[str, str]) -> None:
    """Put a noise site before each of a module's parts that are named, of the placement that stands with it.

    The site is a part of that part, named as its placement.
    """
    for name, placement in places.items():
        part = module.get_submodule(name)
        part.add_module(placement, NoiseSite(placement))
        part.register_forward_pre_hook(_THROUGH[placement])


def _through(placement: str) -> Callable:
    # Finds the site in the part, so that a copy of the part has a site of its own.
    return lambda part, arguments: (getattr(part, placement)(arguments[0]), *arguments[1:])


_THROUGH = {placement: _through(placement) for placement in PLACEMENTS}


def _seeded(seed: int, make: Callable[[], Any]) -> Any:
    torch.manual_seed(seed)
    return make()


class _Trial:
    """A module on trial, by its target: each method raises ConfigError for a fault of its kind."""

    def __init__(self, target: str, module: nn.Module, shape: tuple[int, ...], classes: int):
        self.target, self.module, self.classes = target, module, classes
        self.x = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def error(self, fault: str, allowed: str) -> ConfigError:
        return bad_target("model", self.target, fault, allowed)

    def check_weights(self, again: nn.Module) -> None:
        """Check the parameters, of which `again`, built from the same seed, must have equal ones."""
        parameters = dict(self.module.named_parameters())
        names = [name for name, _ in self.module.named_parameters(remove_duplicate=False)]
        if shared := [name for name in names if name not in parameters]:
            raise self.error(
                f"{shared[0]} is also a parameter of another part", "a parameter of one part each"
            )
        for name, parameter in parameters.items():
            if not parameter.requires_grad:
                raise self.error(
                    f"{name} is frozen (requires_grad=False)", "a network all of which is trained"
                )
        others = again.state_dict()
        for name, value in self.module.state_dict().items():
            if name not in others or not value.equal(others[name]):
                raise self.error(
                    f"built twice from one seed, {name} differs",
                    "random numbers that torch.manual_seed fixes",
                )

    def check_passes(self) -> None:
        """Check what the module returns in both modes, and that nothing in it is random or idle."""
        parameters = dict(self.module.named_parameters())
        self.logits(training=False)
        first, second = (_seeded(seed, lambda: self.logits(training=True)) for seed in (1, 2))
        if not first.equal(second):
            raise self.error(
                "it draws random numbers of its own in train mode (Dropout?)",
                "a network whose noise is that of its sites; take it out, or write NoiseSite in its place",
            )
        try:
            gradients = torch.autograd.grad(second.sum(), list(parameters.values()), allow_unused=True)
        except RuntimeError as error:
            raise self.error(f"it cannot be trained: {said(error)}", ALLOWED) from error
        for name, gradient in zip(parameters, gradients, strict=True):
            if gradient is None:
                raise self.error(
                    f"{name} takes no part in what it returns", "a network all of which is trained"
                )

    def logits(self, training: bool) -> Tensor:
        """Return what the module returns in a mode."""
        shape = f"logits of shape [batch, classes] = [{BATCH}, {self.classes}]"
        try:
            logits = self.module.train(training)(self.x.clone())
        except Exception as error:  # whatever the user's code raises
            raise self.error(
                f"for inputs of shape {list(self.x.shape)} it raises {said(error)}",
                f"a network that gives {shape}",
            ) from error
        mode = "train" if training else "eval"
        if not isinstance(logits, Tensor):
            raise self.error(f"it returns a {type(logits).__name__} in {mode} mode", f"a tensor, {shape}")
        if logits.shape != (BATCH, self.classes) or logits.dtype != torch.float32:
            found = f"{logits.dtype} of shape {list(logits.shape)}"
            raise self.error(f"it returns {found} in {mode} mode", f"float32 {shape}")
        return logits

    def check_norms(self, norm: str) -> None:
        """Check that what is measured is there: normalisation layers, as `norm` says, each part used once."""
        seen = self.watched()
        for name, part in self.module.named_modules():
            if isinstance(part, NoiseSite) and name not in seen.order:
                raise self.error(
                    f"{name} is a NoiseSite that never runs", "sites that every pass comes through"
                )
        for name in seen.order:
            part = self.module.get_submodule(name)
            if seen.order.count(name) > 1:
                raise self.error(
                    f"{name} runs {seen.order.count(name)} times in a pass", "once: a layer for each time"
                )
            if isinstance(part, WEIGHT) and "weight" not in part._parameters:
                raise self.error(
                    f"the weight of {name} is made of others (weight_norm?)", "a weight of its own"
                )
            if isinstance(part, NoiseSite) and part.placement not in PLACEMENTS:
                raise self.error(
                    f"{name} is NoiseSite({part.placement!r})", f"one of {', '.join(PLACEMENTS)}"
                )
        norms = [part for name in seen.order if isinstance(part := self.module.get_submodule(name), NORM)]
        stores = any(getattr(part, "running_var", None) is not None for part in norms)
        if stores != (norm == "batch") or not norms:
            lacking = "no BatchNorm that stores statistics" if norm == "batch" else "no normalisation layer"
            raise self.error(
                f"with model.norm={norm} it runs {'BatchNorm' if stores else lacking}",
                "BatchNorm1d to 3d with model.norm=batch, and GroupNorm with any other",
            )

    def places(self) -> dict[str, str]:
        """Return where sites are put in, and of which placement, in the order of the data."""
        seen, places = self.watched(), {}
        norms: list[str] = []  # so far
        for name in seen.order:
            read = seen.inputs[name]
            if isinstance(self.module.get_submodule(name), NORM):
                places[name] = "before_bn"
                norms.append(name)
            elif seen.gradients(read, torch.randn_like(read), norms):
                places[name] = "before_weight"
        last = [*places][-1]
        if not isinstance(self.module.get_submodule(last), nn.Linear):
            raise self.error(
                "no linear layer follows its last normalisation layer, so that after_last_bn has no place",
                "a network that ends with nn.Linear, or one with NoiseSite modules of its own",
            )
        return places | {last: "after_last_bn"}

    def watched(self) -> Pass:
        """Return what a pass in train mode shows."""
        try:
            return watched_pass(self.module.train(), self.x)
        except TypeError as error:
            raise self.error(str(error), "that every layer is called with its input in front") from error
