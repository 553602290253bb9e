"""What every network of the harness declares: its noise sites and what each normalisation layer hears of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from experiments.checks import Rule
from experiments.layers.scaling import scaled


class NoiseSite(nn.Module):
    """A place in a network where the noise of one placement can act.

    `factor` is what the site multiplies its input by; None, as at first, makes it the identity.
    """

    def __init__(self, placement: str):
        super().__init__()
        self.placement = placement
        self.factor: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return m * x, shaped as x."""
        if self.factor is None:
            return x
        y = scaled(x, self.factor)
        return (
            y if y.dim() == x.dim() else y.squeeze(0)
        )  # of one member, in a network without a members dimension


@dataclass(frozen=True)
class Source:
    """A noise site that a normalisation layer hears directly: noise of that layer's own.

    No path from the site to what the layer reads passes another normalisation layer. Where a layer reads a
    concatenation this is a matter of `channels`, [start, stop): of the channels that the site's own branch
    made it is the own noise, although by way of other layers it also reaches the channels behind them.
    None means all channels.

    `layer` is the linear layer or convolution between the site and the normalisation layer, None when the
    noise goes straight in. `joins_shortcut`: the layer's output, or the site's, is summed with a shortcut before
    it is read.
    """

    site: str
    layer: str | None = None
    joins_shortcut: bool = False
    channels: tuple[int, int] | None = None

    @property
    def part(self) -> slice:
        """The channels that the noise reaches, as an index."""
        return slice(None) if self.channels is None else slice(*self.channels)


@dataclass(frozen=True)
class NormInput:
    """What a normalisation layer reads: the weight layer right before it, and the noise of its own, by name.

    `layer` is None where a user's own network has none there.
    """

    norm: str
    layer: str | None
    sources: tuple[Source, ...] = ()


class Network(nn.Module):
    """A network with all its noise sites in place.

    A subclass is made as `NetworkClass(sample_shape, classes, width=..., depth=..., norm=..., **options)`;
    `OPTIONS` are the rules of the keys that it takes besides these. `norm` is one of
    `experiments.layers.norms.NORMS`; where it is `none` an identity stands in the layer's place and is
    measured there. `needs_images`: samples must be [channels, height, width]. `is_foreign`: its code is somebody
    else's, which makes the initial weights itself and knows no stacks of more than one member.
    """

    OPTIONS: ClassVar[Mapping[str, Rule]] = {}
    needs_images: ClassVar[bool] = True
    is_foreign: ClassVar[bool] = False

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs [..., batch, *sample shape] to logits [..., batch, classes]."""
        raise TypeError(f"{type(self).__name__} has no forward")

    def norm_inputs(self) -> list[NormInput]:
        """Return what each normalisation layer reads, from the shallowest to the deepest."""
        raise TypeError(f"{type(self).__name__} does not declare what its normalisation layers read")

    def with_members(self, x: Tensor) -> Tensor:
        """Return what a part of a stack reads with its members dimension first."""
        return x

    def sites(self) -> dict[str, NoiseSite]:
        """Return every noise site by name, in the order of the data."""
        return {name: module for name, module in self.named_modules() if isinstance(module, NoiseSite)}


def chain_norm_inputs(blocks: int, layer: str) -> list[NormInput]:
    """Return what each norm reads in a plain chain of blocks [noise] -> `layer` -> [noise] -> norm -> ...

    The block's parts are named before_weight (not in the first block), `layer`, before_bn and norm.
    """
    inputs = []
    for index in range(blocks):
        block = f"blocks.{index}"
        sources = [Source(f"{block}.before_bn")]
        if index > 0:
            sources.append(Source(f"{block}.before_weight", f"{block}.{layer}"))
        inputs.append(NormInput(f"{block}.norm", f"{block}.{layer}", tuple(sources)))
    return inputs
