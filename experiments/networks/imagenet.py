"""ResNet, ResNeXt and SENet for ImageNet, whose images are several times larger than CIFAR's.

He et al. (arXiv 1512.03385), Xie et al. (arXiv 1611.05431), Hu et al. (arXiv 1709.01507).
"""

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from experiments.checks import COUNT, SWITCH, Rule
from experiments.networks.layers import Conv2d, Linear, on_images
from experiments.networks.network import Network, NormInput, Source
from experiments.networks.norms import image_norm
from experiments.noise import NoiseSite

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
REDUCTION = 16  # channels over those between squeeze and excitation


class SqueezeExcitation(nn.Module):
    """Weights each channel by sigmoid(W2 ReLU(W1 mean over positions))."""

    def __init__(self, channels: int):
        super().__init__()
        self.squeeze = Linear(channels, max(1, channels // REDUCTION))
        self.excite = Linear(max(1, channels // REDUCTION), channels)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, channels, height, width] -> the same shape."""
        weights = self.excite(F.relu(self.squeeze(x.mean((-2, -1))))).sigmoid()
        return x * weights[..., None, None]


class StemLayer(nn.Module):
    """Convolution, norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, norm: str):
        super().__init__()
        self.conv = Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
        self.norm = image_norm(norm, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, inputs, height, width] -> [..., batch, outputs, height / stride, width / stride]."""
        return F.relu(self.norm(self.conv(x)))


class Block(nn.Module):
    """ReLU(shortcut + [conv1x1 norm ReLU] [grouped conv3x3 norm ReLU] [noise] conv1x1 [noise] norm).

    A shortcut that changes shape is a convolution and a norm. SENet's block weights the channels of what it adds,
    has half as many in front of the 3x3 convolution, and behind the first stage a 3x3 convolution as shortcut.
    """

    def __init__(
        self, inputs: int, inner: int, outputs: int, cardinality: int, stride: int, norm: str, senet: bool
    ):
        super().__init__()
        reduced = inner // 2 if senet else inner
        self.conv_reduce = Conv2d(inputs, reduced, 1, bias=False)
        self.norm_reduce = image_norm(norm, reduced)
        self.conv_groups = Conv2d(reduced, inner, 3, stride, padding=1, groups=cardinality, bias=False)
        self.norm_groups = image_norm(norm, inner)
        self.before_weight = NoiseSite("before_weight")
        self.conv_expand = Conv2d(inner, outputs, 1, bias=False)
        self.before_bn = NoiseSite("before_bn")
        self.norm_expand = image_norm(norm, outputs)
        self.weighting = SqueezeExcitation(outputs) if senet else None
        self.conv_shortcut = self.norm_shortcut = None
        if inputs != outputs or stride != 1:
            size = 3 if senet and stride != 1 else 1
            self.conv_shortcut = Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
            self.norm_shortcut = image_norm(norm, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, inputs, height, width] -> [..., batch, outputs, height / stride, width / stride]."""
        y = F.relu(self.norm_reduce(self.conv_reduce(x)))
        y = F.relu(self.norm_groups(self.conv_groups(y)))
        y = self.norm_expand(self.before_bn(self.conv_expand(self.before_weight(y))))
        if self.weighting is not None:
            y = self.weighting(y)
        if self.conv_shortcut is not None and self.norm_shortcut is not None:
            x = self.norm_shortcut(self.conv_shortcut(x))
        return F.relu(x + y)

    def norm_inputs(self, name: str) -> list[NormInput]:
        """Return what each of this block's norms reads; the input, a sum of normed tensors, brings no noise."""
        expand = f"{name}.conv_expand"
        sources = (Source(f"{name}.before_bn"), Source(f"{name}.before_weight", expand))
        inputs = [
            NormInput(f"{name}.norm_reduce", f"{name}.conv_reduce"),
            NormInput(f"{name}.norm_groups", f"{name}.conv_groups"),
            NormInput(f"{name}.norm_expand", expand, sources),
        ]
        if self.norm_shortcut is not None:
            inputs.append(NormInput(f"{name}.norm_shortcut", f"{name}.conv_shortcut"))
        return inputs


class ImageNetNet(Network):
    """Four stages of bottlenecks behind a stem that shrinks images to a quarter; the last three stages halve them.

    `depth` is the number in the network's name (STAGES), `width` a quarter of the first stage's channels (64 in
    all published ones), doubled in each of the next three. The 3x3 convolutions of the first stage have
    `cardinality` groups of `group_width` channels: ResNet one of 64. `senet` makes it SENet's: see Block; its stem
    is of three 3x3 convolutions instead of one of 7x7. A stride is that of the 3x3 convolution, as in ResNeXt.
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
                self.blocks.append(Block(channels, inner, outputs, cardinality, stride, norm, senet))
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
        """Return what each norm reads: own noise has only the last one of each block's branch."""
        inputs = [NormInput(f"stem.{index}.norm", f"stem.{index}.conv") for index in range(len(self.stem))]
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            inputs += block.norm_inputs(f"blocks.{index}")
        return inputs
