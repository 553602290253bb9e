"""A small plain convolutional network: no shortcuts, so that every BN reads one convolution and nothing else."""

import torch.nn.functional as F
from torch import Tensor, nn

from experiments.layers.convolution import Conv2d
from experiments.layers.layout import on_images
from experiments.layers.linear import Linear
from experiments.layers.norms import image_norm, norm_relu
from experiments.networks.network import Network, NoiseSite, NormInput, chain_norm_inputs

STAGES = 3


class Block(nn.Module):
    """[noise] -> conv3x3 -> [noise] -> norm -> ReLU, and after the last block of a stage max-pooling by 2."""

    def __init__(self, inputs: int, width: int, norm: str, first: bool, pooled: bool):
        super().__init__()
        # Before the first weight layer stands the data: noise there would be another experiment.
        self.before_weight = None if first else NoiseSite("before_weight")
        self.conv = Conv2d(inputs, width, 3, padding=1, bias=False)
        self.before_bn = NoiseSite("before_bn")
        self.norm = image_norm(norm, width)
        self.pooled = pooled

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, inputs, height, width] -> [..., batch, width, height, width], halved where pooled."""
        if self.before_weight is not None:
            x = self.before_weight(x)
        x = norm_relu(self.norm, self.before_bn(self.conv(x)))
        return on_images(lambda images: F.max_pool2d(images, 2), x) if self.pooled else x


class ConvNet(Network):
    """Three stages of `depth` blocks, of `width`, 2 `width` and 4 `width` channels, pooled in between.

    Then the mean over positions, one noise site after the last norm, and a linear classifier.
    """

    def __init__(self, sample_shape: tuple[int, ...], classes: int, width: int, depth: int, norm: str):
        super().__init__()
        self.blocks = nn.ModuleList()
        channels = sample_shape[0]
        for index in range(STAGES * depth):
            outputs = width << (index // depth)
            pooled = index % depth == depth - 1 and index < STAGES * depth - 1
            self.blocks.append(Block(channels, outputs, norm, first=index == 0, pooled=pooled))
            channels = outputs
        self.after_last_bn = NoiseSite("after_last_bn")
        self.classifier = Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, channels, height, width], at least 4 x 4 -> logits [..., batch, classes]."""
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.after_last_bn(x.mean((-2, -1))))

    def norm_inputs(self) -> list[NormInput]:
        """Return what each block's norm reads: noise straight in, and noise through the block's convolution."""
        return chain_norm_inputs(len(self.blocks), "conv")
