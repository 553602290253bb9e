"""The pre-activation residual network of He et al. (arXiv 1603.05027), for small images."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from experiments.checks import Rule, one_of
from experiments.layers.convolution import Conv2d, convolution_plus
from experiments.layers.norms import image_norm, norm_relu, norm_relu_beside
from experiments.networks.network import NoiseSite, NormInput, Source
from experiments.networks.preactivation import PreActivationBlock, PreActivationNet, projection


class BasicBlock(PreActivationBlock):
    """x + [norm ReLU conv3x3] [noise] norm ReLU [noise] conv3x3."""

    expansion = 1
    last_conv = "conv2"

    def __init__(self, inputs: int, width: int, stride: int, norm: str):
        super().__init__()
        self.norm1 = image_norm(norm, inputs)
        self.conv1 = Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.before_bn = NoiseSite("before_bn")
        self.norm2 = image_norm(norm, width)
        self.before_weight = NoiseSite("before_weight")
        self.conv2 = Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = projection(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, inputs, height, width] -> [..., batch, width, height / stride, width / stride]."""
        activated, x = norm_relu_beside(self.norm1, x)
        return self.branch(activated, x if self.shortcut is None else self.shortcut(x))

    def branch(self, activated: Tensor, shortcut: Tensor) -> Tensor:
        """Return the block's sum, from its activated input and its shortcut."""
        y = self.before_bn(self.conv1(activated))
        return convolution_plus(self.conv2, self.before_weight(norm_relu(self.norm2, y)), shortcut)

    def inner_norm_inputs(self, name: str) -> list[NormInput]:
        """Return what the norm behind this block's first convolution reads."""
        return [NormInput(f"{name}.norm2", f"{name}.conv1", (Source(f"{name}.before_bn"),))]


class Bottleneck(PreActivationBlock):
    """x + [norm ReLU conv1x1] [norm ReLU conv3x3] [noise] norm ReLU [noise] conv1x1, four times as wide."""

    expansion = 4
    last_conv = "conv3"

    def __init__(self, inputs: int, width: int, stride: int, norm: str):
        super().__init__()
        self.norm1 = image_norm(norm, inputs)
        self.conv1 = Conv2d(inputs, width, 1, bias=False)
        self.norm2 = image_norm(norm, width)
        self.conv2 = Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.before_bn = NoiseSite("before_bn")
        self.norm3 = image_norm(norm, width)
        self.before_weight = NoiseSite("before_weight")
        self.conv3 = Conv2d(width, self.expansion * width, 1, bias=False)
        self.shortcut = projection(inputs, self.expansion * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, inputs, height, width] -> [..., batch, 4 width, height / stride, width / stride]."""
        activated, x = norm_relu_beside(self.norm1, x)
        y = self.before_bn(self.conv2(norm_relu(self.norm2, self.conv1(activated))))
        y = self.before_weight(norm_relu(self.norm3, y))
        return convolution_plus(self.conv3, y, x if self.shortcut is None else self.shortcut(x))

    def inner_norm_inputs(self, name: str) -> list[NormInput]:
        """Return what the norms behind this block's first two convolutions read."""
        return [
            NormInput(f"{name}.norm2", f"{name}.conv1"),
            NormInput(f"{name}.norm3", f"{name}.conv2", (Source(f"{name}.before_bn"),)),
        ]


class PreResNet(PreActivationNet):
    """Three stages of `depth` blocks, the first of `width` channels (times four behind a bottleneck).

    `block: bottleneck` with depth 18 and width 16 is the paper's "PreResNet-110", which has 164 layers;
    `basic` with depth 18 is the true 110. As in the code base that the paper builds on, a shortcut that changes
    shape projects the block's raw input; He et al. project the activated one.
    """

    OPTIONS: ClassVar[Mapping[str, Rule]] = {"block": one_of("basic", "bottleneck")}

    def __init__(
        self, sample_shape: tuple[int, ...], classes: int, width: int, depth: int, norm: str, block: str
    ):
        block_class = {"basic": BasicBlock, "bottleneck": Bottleneck}[block]
        super().__init__(sample_shape, classes, width, depth, norm, stem_width=width, block=block_class)
