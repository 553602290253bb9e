"""ResNet, ResNeXt and SENet for ImageNet, whose images are several times larger than CIFAR's.

He et al. (arXiv 1512.03385), Xie et al. (arXiv 1611.05431), Hu et al. (arXiv 1709.01507).
"""

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from experiments.checks import COUNT, SWITCH, Rule
from experiments.layers.convolution import Conv2d
from experiments.layers.layout import on_images
from experiments.layers.linear import Linear
from experiments.layers.norms import image_norm, norm_relu
from experiments.networks.network import Network, NoiseSite, NormInput
from experiments.networks.postactivation import PostActivationBlock, block_norm_inputs

# Blocks of the four stages by the depth that gives a network its name: weight layers on the longest path.
STAGES = {
    14: (1, 1, 1, 1),
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    154: (3, 8, 36, 3),  # SENet's, with two convolutions more in its stem
    200: (3, 24, 36, 3),
}
EXPANSION = 4  # output channels of a block over `width`


class StemLayer(nn.Module):
    """Convolution, norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, norm: str):
        super().__init__()
        self.conv = Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
        self.norm = image_norm(norm, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, inputs, height, width] -> [..., batch, outputs, height / stride, width / stride]."""
        return norm_relu(self.norm, self.conv(x))


class ImageNetNet(Network):
    """Four stages of bottlenecks behind a stem that shrinks images to a quarter; the last three stages halve them.

    `depth` is the number in the network's name (STAGES), `width` a quarter of the first stage's channels (64 in
    all published ones), doubled in each of the next three. The 3x3 convolutions of the first stage have
    `cardinality` groups of `group_width` channels: ResNet one of 64. `senet` makes it SENet's: see
    PostActivationBlock; its stem is of three 3x3 convolutions instead of one of 7x7. A stride is that of the 3x3
    convolution, as in ResNeXt.
    """

    OPTIONS: ClassVar[Mapping[str, Rule]] = {
        "depth": Rule(
            f"one of {', '.join(map(str, STAGES))}", lambda value: COUNT.accepts(value) and value in STAGES
        ),
        "cardinality": COUNT,
        "group_width": COUNT,
        "senet": SWITCH,
    }

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        classes: int,
        width: int,
        depth: int,
        norm: str,
        cardinality: int,
        group_width: int,
        senet: bool,
    ):
        super().__init__()
        channels = 2 * width if senet else width
        stem = [(width, 3, 2), (width, 3, 1), (channels, 3, 1)] if senet else [(width, 7, 2)]
        self.stem = nn.ModuleList()
        inputs = sample_shape[0]
        for outputs, size, stride in stem:
            self.stem.append(StemLayer(inputs, outputs, size, stride, norm))
            inputs = outputs
        self.blocks = nn.ModuleList()
        for stage, blocks in enumerate(STAGES[depth]):
            inner, outputs = cardinality * group_width << stage, EXPANSION * width << stage
            for index in range(blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                block = PostActivationBlock(channels, inner, outputs, cardinality, stride, norm, senet)
                self.blocks.append(block)
                channels = outputs
        self.after_last_bn = NoiseSite("after_last_bn")
        self.classifier = Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, channels, height, width] -> logits [..., batch, classes]."""
        for layer in self.stem:
            x = layer(x)
        x = on_images(lambda images: F.max_pool2d(images, 3, 2, padding=1), x)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.after_last_bn(x.mean((-2, -1))))

    def norm_inputs(self) -> list[NormInput]:
        """Return what each norm reads."""
        stem = [NormInput(f"stem.{index}.norm", f"stem.{index}.conv") for index in range(len(self.stem))]
        return [*stem, *block_norm_inputs(self.blocks)]
