"""What every network of the harness declares: its noise sites and what each BN layer hears of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from experiments.checks import Rule
from experiments.noise import NoiseSite


@dataclass(frozen=True)
class Source:
    """A noise site none of whose paths to a BN layer passes another BN: noise of that layer's own.

    `layer` is the linear layer or convolution between the site and the BN, None when the noise goes straight
    in. `joins_shortcut`: the layer's output is summed with a shortcut before BN reads it.
    """

    site: str
    layer: str | None = None
    joins_shortcut: bool = False


@dataclass(frozen=True)
class NormInput:
    """What a BN layer reads: the weight layer right before it, and the noise of its own. All by module name."""

    norm: str
    layer: str
    sources: tuple[Source, ...] = ()


class Network(nn.Module):
    """A network with all its noise sites in place.

    A subclass is made as `NetworkClass(sample_shape, classes, width=..., depth=..., **options)`; `OPTIONS` are
    the rules of the keys that it takes besides width and depth.
    """

    OPTIONS: ClassVar[Mapping[str, Rule]] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs [..., batch, *sample shape] to logits [..., batch, classes]."""
        raise TypeError(f"{type(self).__name__} has no forward")

    def norm_inputs(self) -> list[NormInput]:
        """Return what each BN layer reads, from the shallowest to the deepest."""
        raise TypeError(f"{type(self).__name__} does not declare what its BN layers read")

    def sites(self) -> dict[str, NoiseSite]:
        """Return every noise site by name, in the order of the data."""
        return {name: module for name, module in self.named_modules() if isinstance(module, NoiseSite)}
