"""What each normalisation layer of any network reads, found by running it: nobody has to declare it.

In one pass in train mode the output of every normalisation layer is cut off from what made it: what a layer's
input then has a gradient to, it hears directly. The gradient to a site also says whether the noise comes straight
in, or through one linear layer or convolution and nothing else: it is that of the identity, or of the layer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from analysis.theory.layers import response_without_bias
from experiments.networks.network import NoiseSite, NormInput, Source

NORM = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm)
WEIGHT = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
TOLERANCE = 1e-3  # of a gradient's largest number; single precision is a thousandth of it off


@dataclass
class Pass:
    """One pass of a network, by the names of its norms, weight layers and noise sites.

    `order` is that in which they ran; `inputs` are what they read, `outputs` what they returned, cut off from
    what made it if they are norms. `readers` are, by site, the modules that read just what it returned.
    """

    order: list[str] = field(default_factory=list)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    readers: dict[str, list[str]] = field(default_factory=dict)

    def gradients(self, read: Tensor, cotangent: Tensor, names: list[str]) -> dict[str, Tensor]:
        """Return the gradients of (read * cotangent).sum() to these modules' outputs, where there are any."""
        if not names or not read.requires_grad:
            return {}
        outputs = [self.outputs[name] for name in names]
        found = torch.autograd.grad(read, outputs, cotangent, retain_graph=True, allow_unused=True)
        pairs = zip(names, found, strict=True)
        return {name: gradient for name, gradient in pairs if gradient is not None and gradient.any()}


def watched_pass(network: nn.Module, x: Tensor) -> Pass:
    """Run a plain network, in the mode that it is in, on a batch x, and return what was seen."""
    seen, returned = Pass(), {}

    def before(name: str) -> Callable:
        def look(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            if not arguments:
                raise TypeError(f"{name} is called without an input in front; write it without its name")
            seen.inputs[name] = arguments[0]
            for site, output in returned.items():
                if output is arguments[0]:
                    seen.readers.setdefault(site, []).append(name)

        return look

    def behind(name: str) -> Callable:
        def keep(module: nn.Module, _: tuple, output: Tensor) -> Tensor:
            seen.order.append(name)
            # A tensor of its own: a silent site returns the very one that it read, which others may read too.
            is_norm = isinstance(module, NORM)
            kept = output.detach().requires_grad_() if is_norm else output.view_as(output)
            seen.outputs[name] = kept
            copy = kept.clone()  # which the network may change in place
            if isinstance(module, NoiseSite):
                returned[name] = copy
            return copy

        return keep

    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, (*NORM, *WEIGHT, NoiseSite)):
            hooks.append(module.register_forward_hook(behind(name)))
        if isinstance(module, (*NORM, *WEIGHT)) or not list(module.children()):
            hooks.append(module.register_forward_pre_hook(before(name)))
    try:
        network(x.detach().requires_grad_().clone())
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def find_norm_inputs(network: nn.Module, seen: Pass) -> list[NormInput]:
    """Return what each normalisation layer reads, from the shallowest to the deepest, of a pass of the network.

    A site is a layer's source if its noise arrives as `Source` says, with nothing else in between, and by no path
    through another normalisation layer. Of the weight layers that a sum is made of, the one before the norm is
    the last, and one that a source's noise comes through if there is one.
    """
    kinds = {name: network.get_submodule(name) for name in seen.order}
    random = torch.Generator().manual_seed(0)
    heard: dict[str, set[str]] = {}  # by norm: the sites that it hears, also by way of other norms
    found = []
    for index, norm in enumerate(seen.order):
        if not isinstance(kinds[norm], NORM):
            continue
        read = seen.inputs[norm]
        cotangent = torch.randn(read.shape, generator=random)
        gradients = seen.gradients(read, cotangent, seen.order[:index])
        sites = [name for name in gradients if isinstance(kinds[name], NoiseSite)]
        layers = [name for name in gradients if isinstance(kinds[name], WEIGHT)]
        norms = [name for name in gradients if isinstance(kinds[name], NORM)]
        sources = []
        for site in sites:
            for layer in (None, *layers):
                part = _part(network, seen, site, layer, read, cotangent, gradients[site])
                if part is not None:
                    own = torch.zeros_like(cotangent)
                    own[:, part] = cotangent[:, part]
                    if not any(site in heard[other] for other in seen.gradients(read, own, norms)):
                        sources.append(_source(seen, site, layer, part, read))
                    break
        heard[norm] = {*sites, *(site for other in norms for site in heard[other])}
        named = [source.layer for source in sources if source.layer is not None]
        last = max(named or layers, key=seen.order.index, default=None)
        found.append(NormInput(norm, last, tuple(sources)))
    return found


def _part(
    network: nn.Module,
    seen: Pass,
    site: str,
    layer: str | None,
    read: Tensor,
    cotangent: Tensor,
    gradient: Tensor,
) -> slice | None:
    """Return the channels of `read` to which a site's output is added, as it is or through this layer alone.

    None where it is not. J being the Jacobian of what is read, and L that of the layer, it is that part of a
    random cotangent v for which L' of the part is the gradient J' v.
    """
    noise = torch.zeros_like(seen.outputs[site]).requires_grad_()
    output = seen.outputs[layer or site]
    if layer is not None and seen.inputs[layer].shape != noise.shape:
        return None
    if (output.shape[0], *output.shape[2:]) != (read.shape[0], *read.shape[2:]):
        return None
    channels, all_channels = output.shape[1], read.shape[1]
    # Of a concatenation the output is a part as it is.
    starts = (
        [0]
        if channels == all_channels
        else [
            start
            for start in (read.transpose(0, 1) == output[:, :1].transpose(0, 1))
            .flatten(1)
            .all(1)
            .nonzero()
            .flatten()
            .tolist()
            if start + channels <= all_channels
        ]
    )
    response = response_without_bias(None if layer is None else network.get_submodule(layer), noise)
    for start in starts:
        part = slice(start, start + channels)
        (expected,) = torch.autograd.grad(response, noise, cotangent[:, part], retain_graph=True)
        if (expected - gradient).abs().max() <= TOLERANCE * gradient.abs().max():
            return part
    return None


def _source(seen: Pass, site: str, layer: str | None, part: slice, read: Tensor) -> Source:
    joins = not read[:, part].equal(seen.outputs[layer or site])
    is_all = part == slice(0, read.shape[1])
    return Source(site, layer, joins, None if is_all else (part.start, part.stop))
