"""A network of the user's own: any module, which knows nothing of stacks, noise or what is measured of it.

Where it holds `NoiseSite` modules noise acts there, and nowhere else. Where it holds none they are put in: before
every normalisation layer (`before_bn`), before every weight layer that follows one (`before_weight`), and before
the last linear layer (`after_last_bn`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from analysis.schema import PLACEMENTS
from experiments.checks import ConfigError, Rule
from experiments.networks.hearing import NORM, WEIGHT, Pass, find_norm_inputs, watched_pass
from experiments.networks.network import Network, NoiseSite, NormInput
from experiments.targets import TARGET_RULES, bad_target, call_target, said

BATCH = 8  # samples of a trial pass
ALLOWED = "a function build(sample_shape, classes, width, depth, norm) that returns a torch.nn.Module"


@dataclass(frozen=True)
class Layout:
    """What a trial pass found: the sites to put in, by the module that each stands before, and what norms read."""

    put_in: Mapping[str, str]
    norm_inputs: list[NormInput]


class Custom(Network):
    """A module of the user's own, of one member at a time: a stack of it has one row.

    The module runs without a members dimension. Its parts have the names that they have in it. Its parameters and
    buffers have a leading dimension in a stack, as those of every network, but of size 1.
    """

    OPTIONS: ClassVar[Mapping[str, Rule]] = TARGET_RULES
    needs_images: ClassVar[bool] = False
    is_foreign: ClassVar[bool] = True

    def __init__(self, sample_shape: tuple[int, ...], classes: int, **options: Any):
        super().__init__()
        layout = find_layout(sample_shape, classes, **options)
        module = _build(sample_shape, classes, **options)
        put_sites_in(module, layout.put_in)
        self.sample_dims, self.layout = len(sample_shape), layout
        # Shared, so that each part has one name; in a tuple the module is no part of its own.
        self._modules, self._parameters, self._buffers = module._modules, module._parameters, module._buffers
        self._non_persistent_buffers_set = module._non_persistent_buffers_set
        self._module = (module,)

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, *sample shape] -> logits [batch, classes], or both with a members dimension of size 1."""
        (module,) = self._module
        if x.dim() == 1 + self.sample_dims:
            return module(x)
        state = {name: value.squeeze(0) for name, value in [*self.named_parameters(), *self.named_buffers()]}
        return functional_call(module, state, (x.squeeze(0),)).unsqueeze(0)

    def with_members(self, x: Tensor) -> Tensor:
        """Return what a part of the module reads, which has no members dimension, with one."""
        return x.unsqueeze(0)

    def train(self, mode: bool = True) -> "Custom":
        """Set the mode of the module, its own `training` too."""
        self._module[0].train(mode)
        return super().train(mode)

    def norm_inputs(self) -> list[NormInput]:
        """Return what each normalisation layer read in the trial pass."""
        return self.layout.norm_inputs


def site_lines(network: Network, x: Tensor) -> list[str]:
    """Return a line for each noise site of a plain network: its name, placement, and the module it stands before.

    Found by running the network on a batch x; "a function" where no module reads just what the site returned.
    """
    network.eval()
    readers = watched_pass(network, x).readers
    lines = []
    for name, site in network.sites().items():
        read_by = [
            f"{other} ({type(network.get_submodule(other)).__name__})" for other in readers.get(name, [])
        ]
        lines.append(f"{name}: {site.placement}, before {' and '.join(read_by) or 'a function'}")
    return lines


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


def _build(
    sample_shape: tuple[int, ...], classes: int, target: str, source: str, **options: Any
) -> nn.Module:
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
            _seeded(0, lambda: _build(sample_shape, classes, norm=norm, target=target, **options))
            for _ in range(2)
        )
        trial = _Trial(target, module, (BATCH, *sample_shape), classes)
        trial.check_weights(again)
        trial.check_passes()
        trial.check_norms(norm)
        put_in = {} if any(isinstance(part, NoiseSite) for part in module.modules()) else trial.places()
        put_sites_in(module, put_in)
        return Layout(put_in, find_norm_inputs(module, trial.watched()))


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
        seen = self.watched()
        kinds = {name: self.module.get_submodule(name) for name in seen.order}
        norms = [name for name in seen.order if isinstance(kinds[name], NORM)]
        follows = {
            name
            for name in seen.order
            if isinstance(kinds[name], WEIGHT) and self.follows_a_norm(seen, name, norms)
        }
        linear = [name for name in seen.order if isinstance(kinds[name], nn.Linear)]
        if (
            not linear
            or linear[-1] not in follows
            or seen.order.index(linear[-1]) < seen.order.index(norms[-1])
        ):
            raise self.error(
                "no linear layer follows its last normalisation layer, so that after_last_bn has no place",
                "a network that ends with nn.Linear, or one with NoiseSite modules of its own",
            )
        return {
            name: "before_bn" if name in norms else "after_last_bn" if name == linear[-1] else "before_weight"
            for name in seen.order
            if name in norms or name in follows
        }

    def follows_a_norm(self, seen: Pass, layer: str, norms: list[str]) -> bool:
        before = [name for name in norms if seen.order.index(name) < seen.order.index(layer)]
        read = seen.inputs[layer]
        return bool(seen.gradients(read, torch.ones_like(read), before))

    def watched(self) -> Pass:
        self.module.train()
        return watched_pass(self.module, self.x)
