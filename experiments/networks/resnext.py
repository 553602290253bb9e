"""The aggregated residual network of Xie et al. (arXiv 1611.05431), for small images."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from experiments.checks import COUNT, Rule
from experiments.layers.convolution import Conv2d
from experiments.layers.linear import Linear
from experiments.layers.norms import image_norm, norm_relu
from experiments.networks.network import Network, NoiseSite, NormInput
from experiments.networks.postactivation import PostActivationBlock, block_norm_inputs

STAGES = 3
EXPANSION = 4  # output channels of a block over the width of one of its groups, whatever the cardinality


class ResNeXt(Network):
    """Three stages of `depth` blocks, the last two strided; each block has `cardinality` groups.

    `width` is the channels of one group in the first stage, doubled in each of the next two. ResNeXt-29, 8x64d
    has depth 3, cardinality 8 and width 64.
    """

    OPTIONS: ClassVar[Mapping[str, Rule]] = {"cardinality": COUNT}

    def __init__(
        self, sample_shape: tuple[int, ...], classes: int, width: int, depth: int, norm: str, cardinality: int
    ):
        super().__init__()
        self.stem = Conv2d(sample_shape[0], width, 3, padding=1, bias=False)
        self.norm = image_norm(norm, width)
        self.blocks = nn.ModuleList()
        channels = width
        for index in range(STAGES * depth):
            stage = index // depth
            stride = 2 if stage > 0 and index % depth == 0 else 1
            inner, outputs = cardinality * width << stage, EXPANSION * width << stage
            self.blocks.append(PostActivationBlock(channels, inner, outputs, cardinality, stride, norm))
            channels = outputs
        self.after_last_bn = NoiseSite("after_last_bn")
        self.classifier = Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, channels, height, width] -> logits [..., batch, classes]."""
        x = norm_relu(self.norm, self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.after_last_bn(x.mean((-2, -1))))

    def norm_inputs(self) -> list[NormInput]:
        """Return what each norm reads."""
        return [NormInput("norm", "stem"), *block_norm_inputs(self.blocks)]
