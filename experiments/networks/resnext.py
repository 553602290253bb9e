"""The aggregated residual network of Xie et al. (arXiv 1611.05431), for small images."""

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from experiments.checks import COUNT, Rule
from experiments.networks.layers import Conv2d, Linear
from experiments.networks.network import Network, NormInput, Source
from experiments.networks.norms import image_norm
from experiments.noise import NoiseSite

STAGES = 3
EXPANSION = 4  # output channels of a block over the width of one of its groups, whatever the cardinality


class Block(nn.Module):
    """ReLU(shortcut + [conv1x1 norm ReLU] [grouped conv3x3 norm ReLU] [noise] conv1x1 [noise] norm).

    The expanding 1x1 convolution is followed by a norm of its own: the one network here in which a block
    holds the paper's chain Dropout -> Conv -> BN literally. A shortcut that changes shape is conv1x1 norm.
    """

    def __init__(self, inputs: int, width: int, cardinality: int, stride: int, norm: str):
        super().__init__()
        inner, outputs = cardinality * width, EXPANSION * width
        self.conv_reduce = Conv2d(inputs, inner, 1, bias=False)
        self.norm_reduce = image_norm(norm, inner)
        self.conv_groups = Conv2d(inner, inner, 3, stride, padding=1, groups=cardinality, bias=False)
        self.norm_groups = image_norm(norm, inner)
        self.before_weight = NoiseSite("before_weight")
        self.conv_expand = Conv2d(inner, outputs, 1, bias=False)
        self.before_bn = NoiseSite("before_bn")
        self.norm_expand = image_norm(norm, outputs)
        self.conv_shortcut = self.norm_shortcut = None
        if inputs != outputs or stride != 1:
            self.conv_shortcut = Conv2d(inputs, outputs, 1, stride, bias=False)
            self.norm_shortcut = image_norm(norm, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, inputs, height, width] -> [..., batch, 4 width, height / stride, width / stride]."""
        y = F.relu(self.norm_reduce(self.conv_reduce(x)))
        y = F.relu(self.norm_groups(self.conv_groups(y)))
        y = self.norm_expand(self.before_bn(self.conv_expand(self.before_weight(y))))
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
            self.blocks.append(Block(channels, width << stage, cardinality, stride, norm))
            channels = EXPANSION * (width << stage)
        self.after_last_bn = NoiseSite("after_last_bn")
        self.classifier = Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, channels, height, width] -> logits [..., batch, classes]."""
        x = F.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.after_last_bn(x.mean((-2, -1))))

    def norm_inputs(self) -> list[NormInput]:
        """Return what each norm reads: own noise has only the last one of each block's branch."""
        inputs = [NormInput("norm", "stem")]
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            inputs += block.norm_inputs(f"blocks.{index}")
        return inputs
