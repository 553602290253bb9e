"""What the pre-activation residual networks share: a stem, three stages of blocks, how noise joins sums."""

from collections.abc import Callable

from torch import Tensor, nn

from experiments.layers.convolution import Conv2d
from experiments.layers.linear import Linear
from experiments.layers.norms import image_norm, norm_relu
from experiments.networks.network import Network, NoiseSite, NormInput, Source

STAGES = 3


class PreActivationBlock(nn.Module):
    """A block that returns its input, or a projection of it, plus a branch; `norm1` reads the input.

    The branch ends with the site `before_weight` and the convolution named by `last_conv`. The block's output
    has `expansion` times its width in channels.
    """

    expansion: int
    last_conv: str

    def inner_norm_inputs(self, name: str) -> list[NormInput]:
        """Return what the norms behind this block's own convolutions read; `name` is the block's."""
        raise TypeError(f"{type(self).__name__} does not declare what its normalisation layers read")


def projection(inputs: int, outputs: int, stride: int) -> Conv2d | None:
    """Return the 1x1 convolution of a shortcut that changes shape; None where it is the identity."""
    return None if inputs == outputs and stride == 1 else Conv2d(inputs, outputs, 1, stride, bias=False)


class PreActivationNet(Network):
    """Three stages of `depth` blocks, of `width`, 2 `width` and 4 `width` channels, the last two strided.

    A 3x3 convolution of `stem_width` channels comes before them; norm, ReLU, the mean over positions, one
    noise site and a linear classifier come after.
    """

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        classes: int,
        width: int,
        depth: int,
        norm: str,
        stem_width: int,
        block: Callable[[int, int, int, str], PreActivationBlock],
    ):
        super().__init__()
        self.stem = Conv2d(sample_shape[0], stem_width, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList()
        channels = stem_width
        for index in range(STAGES * depth):
            stage = index // depth
            stride = 2 if stage > 0 and index % depth == 0 else 1
            added = block(channels, width << stage, stride, norm)
            self.blocks.append(added)
            channels = (width << stage) * added.expansion
        self.norm = image_norm(norm, channels)
        self.after_last_bn = NoiseSite("after_last_bn")
        self.classifier = Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, channels, height, width] -> logits [..., batch, classes]."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = norm_relu(self.norm, x).mean((-2, -1))  # [..., batch, channels]
        return self.classifier(self.after_last_bn(x))

    def norm_inputs(self) -> list[NormInput]:
        """Return what each norm reads.

        A block's first norm reads the sum that the block before made: of its noise, that before its last
        convolution alone comes without passing another norm.
        """
        inputs = []
        layer, sources = "stem", ()
        for index, block in enumerate(self.blocks):
            assert isinstance(block, PreActivationBlock)
            name = f"blocks.{index}"
            inputs.append(NormInput(f"{name}.norm1", layer, sources))
            inputs += block.inner_norm_inputs(name)
            layer = f"{name}.{block.last_conv}"
            sources = (Source(f"{name}.before_weight", layer, joins_shortcut=True),)
        return [*inputs, NormInput("norm", layer, sources)]
