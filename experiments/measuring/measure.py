"""Measuring variance shift: every normalisation layer of every member, weights frozen.

Each layer's input is looked at three times over the same training samples: in train mode (noise on, every BN
normalising by its batch), in train mode with only this layer's own noise taken out, and in eval mode. All
variances are unbiased and pooled over samples and positions per channel; a layer's value is the mean over all
its channels, also over those without noise of their own, and ratios are ratios of those means.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from analysis.theory.layers import Convolution, patch_sum, response_without_bias, squared_response
from experiments.data import Data
from experiments.measuring.evaluate import capture_inputs, train_mode_pass, wrong_answers
from experiments.measuring.moments import Moments, PatchMoments
from experiments.members import Member
from experiments.networks.network import Network, NormInput, Source
from experiments.settings.recipe import Recipe
from experiments.training.stack import ChunkNoise


@dataclass
class SourceMoments:
    """A layer, what it makes of noise, and streamed moments of what theory needs of the noise site before it."""

    layer: nn.Module | None  # None: the noise goes straight into the normalisation
    response: Callable[[Tensor], Tensor]  # of the layer without its bias, for each member
    # x, the input to the noise, each of whose features or channels, or for a convolution each entry of its patches
    noise_inputs: Moments | PatchMoments
    patch_sums: Moments = field(default_factory=Moments)  # sum of x over a filter's patch

    @property
    def mean_squared_response(self) -> Tensor:
        """Mean of L2(x^2) per output [members, channels], which is L2(mean of x^2), because L2 is linear."""
        root = self.noise_inputs.mean_square.sqrt().unsqueeze(1)  # [members, 1 sample, channels, ...]
        if self.layer is None:
            return squared_response(None, root).squeeze(1)
        called = _LayerFunction(self.layer, squared_response)
        # One after the other: a product of all at once rounds by how many they are.
        response = torch.stack(
            [
                functional_call(called, {"layer.weight": weight.double()}, (x,))
                for weight, x in zip(self.layer.weight.detach(), root, strict=True)  # type: ignore[arg-type]
            ]
        )
        return response.reshape(*response.shape[:3], -1).mean((1, 3))


@dataclass
class OwnNoise:
    """A normalisation layer's own noise: streamed moments of its input without it, and of each source."""

    sources: dict[Source, SourceMoments]
    clean: Moments = field(default_factory=Moments)


@dataclass
class TrainModePass:
    """What the passes in train mode found: error in percent [members], BN inputs, own noise by BN name."""

    error: Tensor
    norm_moments: dict[str, Moments]
    own_noise: dict[str, OwnNoise]


class _LayerFunction(nn.Module):
    """Calls `function(layer, x)`: lets `functional_call` swap the layer's weight for one member's."""

    def __init__(self, layer: nn.Module, function: Callable[[nn.Module, Tensor], Tensor]):
        super().__init__()
        self.layer, self.function = layer, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer, x)


def for_each_member(function: Callable[[nn.Module, Tensor], Tensor], layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a `function(layer, x)` of `analysis.theory` to each member's weight and x [members, ...]."""
    called = _LayerFunction(layer, function)

    def call(weight: Tensor, x: Tensor) -> Tensor:
        return functional_call(called, {"layer.weight": weight}, (x,))

    if len(x) == 1:  # vmap would lay images out anew
        return call(layer.weight[0], x[0]).unsqueeze(0)  # type: ignore[index]
    return vmap(call)(layer.weight, x)  # type: ignore[arg-type]


@torch.no_grad()
def measure_train_mode(
    stack: Network, members: list[Member], noise: ChunkNoise, data: Data, recipe: Recipe, draws: int
) -> TrainModePass:
    """Run the stack in train mode over one epoch of batches, `draws` times with fresh noise and order."""
    norm_inputs = stack.norm_inputs()
    norm_moments = {norm_input.norm: Moments() for norm_input in norm_inputs}
    own_noise = _own_noise(stack, norm_inputs, noise)
    source_moments = {
        (source.site, source.layer): moments
        for own in own_noise.values()
        for source, moments in own.sources.items()
    }
    wrong = torch.zeros(len(members), dtype=torch.double, device=data.train_inputs.device)
    samples = 0
    with (
        capture_inputs(stack, norm_moments) as norm_captured,
        capture_inputs(stack, noise.active) as site_captured,
    ):
        for draw in range(draws):
            # Epochs count on from training's last, so that neither order nor noise is one already trained on.
            for logits, labels in train_mode_pass(
                stack, members, noise, data, recipe.batch_size, recipe.epochs + draw, f"measure {draw}"
            ):
                wrong += wrong_answers(logits, labels)
                samples += labels.shape[1]
                for name, moments in norm_moments.items():
                    moments.update(norm_captured[name])
                added_noise = {
                    (site, layer): _added_noise(moments, site_captured[site], noise.sites[site].factor)
                    for (site, layer), moments in source_moments.items()
                }
                for name, own in own_noise.items():
                    own.clean.update(_without(own.sources, norm_captured[name], added_noise))
    return TrainModePass(100 * wrong / samples, norm_moments, own_noise)


def _own_noise(stack: Network, norm_inputs: Sequence[NormInput], noise: ChunkNoise) -> dict[str, OwnNoise]:
    """Return what is to be measured of each normalisation layer that has noise of its own, by its name.

    In a dense net many layers read one site through one convolution: they share its moments.
    """
    shared: dict[tuple[str, str | None], SourceMoments] = {}
    own_noise = {}
    for norm_input in norm_inputs:
        sources = [source for source in norm_input.sources if source.site in noise.active]
        for source in sources:
            if (source.site, source.layer) not in shared:
                layer = stack.get_submodule(source.layer) if source.layer else None
                moments = PatchMoments(layer) if isinstance(layer, Convolution) else Moments()
                shared[source.site, source.layer] = SourceMoments(layer, _response(stack, layer), moments)
        if sources:
            own_noise[norm_input.norm] = OwnNoise(
                {source: shared[source.site, source.layer] for source in sources}
            )
    return own_noise


def _response(stack: Network, layer: nn.Module | None) -> Callable[[Tensor], Tensor]:
    """Return what a layer of the stack does to noise: its linear part."""
    if layer is None:
        return lambda noise: noise
    if stack.is_foreign:
        return partial(for_each_member, response_without_bias, layer)
    assert layer.bias is None  # the noise would add one bias too many
    return layer


def _added_noise(moments: SourceMoments, x: Tensor, factor: Tensor | None) -> Tensor:
    """Add one batch of a site's input x to `moments`; return what its noise adds behind the layer.

    That is exact, because all in between is linear.
    """
    assert factor is not None
    moments.noise_inputs.update(x)
    if moments.layer is not None:
        moments.patch_sums.update(for_each_member(patch_sum, moments.layer, x))
    return moments.response(x * (factor - 1))


def _without(
    sources: Iterable[Source], norm_input: Tensor, added_noise: Mapping[tuple[str, str | None], Tensor]
) -> Tensor:
    """Return a normalisation layer's input [members, batch, channels, ...] less what its sources added."""
    clean = norm_input.clone()
    for source in sources:
        clean[:, :, source.part] -= added_noise[source.site, source.layer]
    return clean
