"""The block of the residual networks that activate sums: ResNet's bottleneck, ResNeXt's and SENet's."""

import torch.nn.functional as F
from torch import Tensor, nn

from experiments.layers.convolution import Conv2d
from experiments.layers.linear import Linear
from experiments.layers.norms import image_norm, norm_relu
from experiments.networks.network import NoiseSite, NormInput, Source

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


class PostActivationBlock(nn.Module):
    """ReLU(shortcut + [conv1x1 norm ReLU] [grouped conv3x3 norm ReLU] [noise] conv1x1 [noise] norm).

    The expanding 1x1 convolution is followed by a norm of its own: of the networks here, those made of this block
    hold the paper's chain Dropout -> Conv -> BN literally. A shortcut that changes shape is a convolution and a
    norm. SENet's block weights the channels of what it adds, has half as many in front of the 3x3 convolution, and
    where it strides a 3x3 convolution as shortcut.
    """

    def __init__(
        self,
        inputs: int,
        inner: int,
        outputs: int,
        cardinality: int,
        stride: int,
        norm: str,
        senet: bool = False,
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
        y = norm_relu(self.norm_reduce, self.conv_reduce(x))
        y = norm_relu(self.norm_groups, self.conv_groups(y))
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


def block_norm_inputs(blocks: nn.ModuleList) -> list[NormInput]:
    """Return what each norm of a network's `blocks` reads: own noise has only the last one of each branch."""
    inputs = []
    for index, block in enumerate(blocks):
        assert isinstance(block, PostActivationBlock)
        inputs += block.norm_inputs(f"blocks.{index}")
    return inputs
