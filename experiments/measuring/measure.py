"""Measuring variance shift: every normalisation layer of every member, weights frozen.

Each layer's input is looked at three times over the same training samples: in train mode (noise on, every BN
normalising by its batch), in train mode with only this layer's own noise taken out, and in eval mode. All
variances are unbiased and pooled over samples and positions per channel; a layer's value is the mean over all
its channels, also over those without noise of their own, and ratios are ratios of those means.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from analysis import theory
from analysis.theory.layers import fan_in, patch_sum, squared_cosine, squared_response
from experiments.data import Data
from experiments.measuring.evaluate import capture_inputs
from experiments.measuring.moments import Moments, PatchMoments
from experiments.members import Member
from experiments.networks.network import Network, NormInput, Source
from experiments.settings.recipe import Recipe
from experiments.training.stack import ChunkNoise
from experiments.training.train import stacked_batches


@dataclass
class SourceMoments:
    """A layer, and streamed moments of what theory needs of the noise site before it."""

    layer: nn.Module | None  # None: the noise goes straight into the normalisation
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


@contextmanager
def frozen_statistics(stack: Network) -> Iterator[None]:
    """Give every buffer (BN's running statistics) its old value back at the end."""
    saved = {name: buffer.clone() for name, buffer in stack.named_buffers()}
    try:
        yield
    finally:
        for name, buffer in stack.named_buffers():
            buffer.copy_(saved[name])


@torch.no_grad()
def measure_train_mode(
    stack: Network, members: list[Member], noise: ChunkNoise, data: Data, recipe: Recipe, draws: int
) -> TrainModePass:
    """Run the stack in train mode over one epoch of batches, `draws` times with fresh noise and order."""
    norm_inputs = stack.norm_inputs()
    moments = {norm_input.norm: Moments() for norm_input in norm_inputs}
    heard = {n.norm: [source for source in n.sources if source.site in noise.active] for n in norm_inputs}
    # In a dense net many layers hear one site through one convolution: each such pair is followed once.
    followed = {
        (s.site, s.layer): _source_moments(stack.get_submodule(s.layer) if s.layer else None)
        for sources in heard.values()
        for s in sources
    }
    own = {
        name: OwnNoise({s: followed[s.site, s.layer] for s in sources})
        for name, sources in heard.items()
        if sources
    }
    wrong = torch.zeros(len(members), dtype=torch.double, device=data.train_inputs.device)
    seen = 0
    batch = recipe.batch_size
    stack.train()
    with (
        frozen_statistics(stack),
        capture_inputs(stack, moments) as norm_captured,
        capture_inputs(stack, noise.active) as site_captured,
    ):
        for draw in range(draws):
            # Epochs count on from training's last, so that neither order nor noise is one already trained on.
            batches = stacked_batches(data, members, recipe.epochs + draw, batch)
            for index, (inputs, labels) in enumerate(batches):
                with noise.on(f"measure {draw} {index}", batch):
                    logits = stack(inputs)
                    factors = {
                        name: factor
                        for name in noise.active
                        if (factor := noise.sites[name].factor) is not None
                    }
                wrong += (logits.argmax(-1) != labels).sum(1)
                seen += batch
                for name, moment in moments.items():
                    moment.update(norm_captured[name])
                brought = {
                    (site, layer): _follow_noise(source_moments, site_captured[site], factors[site])
                    for (site, layer), source_moments in followed.items()
                }
                for name, own_noise in own.items():
                    own_noise.clean.update(_without(own_noise.sources, norm_captured[name], brought))
    return TrainModePass(100 * wrong / seen, moments, own)


def _source_moments(layer: nn.Module | None) -> SourceMoments:
    return SourceMoments(layer, PatchMoments(layer) if isinstance(layer, nn.Conv2d) else Moments())


def _follow_noise(moments: SourceMoments, x: Tensor, factor: Tensor) -> Tensor:
    """Add one batch of a site's input x to `moments`; return what its noise brings in behind the layer.

    That is exact, because all in between is linear.
    """
    moments.noise_inputs.update(x)
    noise = x * (factor - 1)
    if moments.layer is None:
        return noise
    moments.patch_sums.update(for_each_member(patch_sum, moments.layer, x))
    assert moments.layer.bias is None  # of which the noise would bring in one too much
    return moments.layer(noise)


def _without(
    sources: Iterable[Source], norm_input: Tensor, brought: Mapping[tuple[str, str | None], Tensor]
) -> Tensor:
    """Return a normalisation layer's input [members, batch, channels, ...] less what the sources brought in."""
    clean = norm_input.clone()
    for source in sources:
        clean[:, :, source.part] -= brought[source.site, source.layer]
    return clean


def predicted_train_variance(own: OwnNoise, noise: ChunkNoise) -> Tensor:
    """Return the exact law's train-mode variance [members, channels] from the clean input and L2(x^2)."""
    variance = own.clean.variance  # [members, channels]
    for source, moments in own.sources.items():
        noise_variance = noise.active[source.site].noise_variance.double().unsqueeze(1)
        variance[:, source.part] = theory.exact_train_variance(
            variance[:, source.part], noise_variance, moments.mean_squared_response
        )
    return variance


def weight_columns(stack: Network, norm_input: NormInput) -> dict[str, Tensor | int]:
    """Return fan-in d, and the filter means of cos^2 and d cos^2 [members], of the layer before a BN."""
    weight = stack.get_submodule(norm_input.layer).weight.detach()  # type: ignore[union-attr]
    cos2 = torch.stack([squared_cosine(member) for member in weight]).mean(1)  # type: ignore[union-attr]
    d = fan_in(weight[0])  # type: ignore[index]
    return {"fan_in": d, "cos2": cos2, "d_cos2": d * cos2}


def source_columns(own: OwnNoise, source: Source, noise: ChunkNoise, weights: Mapping) -> dict[str, Tensor]:
    """Return c, v, rho of one source's noise input and the paper's ratio made of them, each [members].

    Through a convolution they are means over the entries of its patches, where padding counts as zeros.
    Eq 8 where the noise goes straight in, Eq 12 through a layer; no ratio where the layer joins a shortcut,
    of which Eq 12 says nothing; and nothing at all of a source that is only some of the channels'.
    """
    if source.channels is not None:
        return {}
    inputs = own.sources[source].noise_inputs
    c, v = inputs.mean.mean(1), inputs.variance.mean(1)
    columns = {"input_mean": c, "input_var": v}
    noise_variance = noise.active[source.site].noise_variance.double()
    if source.layer is None:
        columns["ratio_paper"] = theory.ratio_before_bn(c, v, noise_variance)
        return columns
    rho = theory.input_correlation(own.sources[source].patch_sums.variance.mean(1), v, weights["fan_in"])
    columns["input_corr"] = rho
    if not source.joins_shortcut:
        columns["ratio_paper"] = theory.ratio_before_weight(c, v, rho, weights["d_cos2"], noise_variance)
    return columns
