"""The pre-activation residual network of He et al. (arXiv 1603.05027), for small images."""

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from experiments.checks import Rule, one_of
from experiments.networks.layers import BatchNorm2d, Conv2d, Linear
from experiments.networks.network import Network, NormInput, Source
from experiments.noise import NoiseSite


class BasicBlock(nn.Module):
    """x + [BN ReLU conv3x3] [noise] BN ReLU [noise] conv3x3."""

    expansion = 1
    last_norm, last_conv = "bn2", "conv2"

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.bn1 = BatchNorm2d(inputs)
        self.conv1 = Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.before_bn = NoiseSite("before_bn")
        self.bn2 = BatchNorm2d(width)
        self.before_weight = NoiseSite("before_weight")
        self.conv2 = Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, inputs, height, width] -> [..., batch, width, height / stride, width / stride]."""
        activated = F.relu(self.bn1(x))
        y = self.before_bn(self.conv1(activated))
        y = self.conv2(self.before_weight(F.relu(self.bn2(y))))
        return y + (x if self.shortcut is None else self.shortcut(activated))

    def inner_norms(self, name: str) -> list[NormInput]:
        """Return what the BN layers behind this block's own convolutions read."""
        return [NormInput(f"{name}.bn2", f"{name}.conv1", (Source(f"{name}.before_bn"),))]


class Bottleneck(nn.Module):
    """x + [BN ReLU conv1x1] [BN ReLU conv3x3] [noise] BN ReLU [noise] conv1x1, four times as wide."""

    expansion = 4
    last_norm, last_conv = "bn3", "conv3"

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.bn1 = BatchNorm2d(inputs)
        self.conv1 = Conv2d(inputs, width, 1, bias=False)
        self.bn2 = BatchNorm2d(width)
        self.conv2 = Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.before_bn = NoiseSite("before_bn")
        self.bn3 = BatchNorm2d(width)
        self.before_weight = NoiseSite("before_weight")
        self.conv3 = Conv2d(width, 4 * width, 1, bias=False)
        self.shortcut = shortcut(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, inputs, height, width] -> [..., batch, 4 width, height / stride, width / stride]."""
        activated = F.relu(self.bn1(x))
        y = self.conv2(F.relu(self.bn2(self.conv1(activated))))
        y = self.conv3(self.before_weight(F.relu(self.bn3(self.before_bn(y)))))
        return y + (x if self.shortcut is None else self.shortcut(activated))

    def inner_norms(self, name: str) -> list[NormInput]:
        """Return what the BN layers behind this block's own convolutions read."""
        return [
            NormInput(f"{name}.bn2", f"{name}.conv1"),
            NormInput(f"{name}.bn3", f"{name}.conv2", (Source(f"{name}.before_bn"),)),
        ]


def shortcut(inputs: int, outputs: int, stride: int) -> Conv2d | None:
    """Return the 1x1 convolution of a shortcut that changes shape; None where it is the identity."""
    return None if inputs == outputs and stride == 1 else Conv2d(inputs, outputs, 1, stride, bias=False)


class PreResNet(Network):
    """Three stages of `depth` blocks, of `width`, 2 `width` and 4 `width` channels, the last two strided.

    `block` bottleneck with depth 18 and width 16 is the paper's "PreResNet-110" (164 layers); basic with depth
    18 is the true 110.
    """

    OPTIONS: ClassVar[Mapping[str, Rule]] = {"block": one_of("basic", "bottleneck")}

    def __init__(self, sample_shape: tuple[int, ...], classes: int, width: int, depth: int, block: str):
        super().__init__()
        block_class = {"basic": BasicBlock, "bottleneck": Bottleneck}[block]
        self.stem = Conv2d(sample_shape[0], width, 3, padding=1, bias=False)
        channels = width
        self.blocks = nn.ModuleList()
        for stage in range(3):
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                self.blocks.append(block_class(channels, width << stage, stride))
                channels = (width << stage) * block_class.expansion
        self.bn = BatchNorm2d(channels)
        self.after_last_bn = NoiseSite("after_last_bn")
        self.classifier = Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, channels, height, width] -> logits [..., batch, classes]."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = F.relu(self.bn(x)).mean((-2, -1))  # [..., batch, channels]
        return self.classifier(self.after_last_bn(x))

    def norm_inputs(self) -> list[NormInput]:
        """Return what each BN reads.

        A block's first BN reads the sum that the block before made: of its noise, that before its last
        convolution alone comes without passing another BN.
        """
        inputs = []
        layer, sources = "stem", ()
        for index, block in enumerate(self.blocks):
            name = f"blocks.{index}"
            inputs.append(NormInput(f"{name}.bn1", layer, sources))
            inputs += block.inner_norms(name)  # type: ignore[operator]
            layer = f"{name}.{block.last_conv}"
            sources = (Source(f"{name}.before_weight", layer, joins_shortcut=True),)
        return [*inputs, NormInput("bn", layer, sources)]
