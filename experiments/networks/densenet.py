"""The densely connected network of Huang et al. (arXiv 1608.06993), DenseNet-BC, for small images."""

import torch.nn.functional as F
from torch import Tensor, nn

from experiments.layers.convolution import Conv2d
from experiments.layers.layout import join_channels, on_images
from experiments.layers.linear import Linear
from experiments.layers.norms import image_norm, norm_relu, norm_relu_beside
from experiments.networks.network import Network, NoiseSite, NormInput, Source

BLOCKS = 3
BOTTLENECK = 4  # channels between a dense layer's two convolutions over those that it adds
COMPRESSION = 2  # channels before a transition over those behind it


class DenseLayer(nn.Module):
    """Concatenates x with [norm ReLU conv1x1] [noise] norm ReLU [noise] conv3x3, `growth` channels of it."""

    def __init__(self, inputs: int, growth: int, norm: str):
        super().__init__()
        self.added_channels = (inputs, inputs + growth)  # [start, stop) in the concatenation
        self.norm1 = image_norm(norm, inputs)
        self.conv1 = Conv2d(inputs, BOTTLENECK * growth, 1, bias=False)
        self.before_bn = NoiseSite("before_bn")
        self.norm2 = image_norm(norm, BOTTLENECK * growth)
        self.before_weight = NoiseSite("before_weight")
        self.conv2 = Conv2d(BOTTLENECK * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, inputs, height, width] -> [..., batch, inputs + growth, height, width]."""
        activated, x = norm_relu_beside(self.norm1, x)
        y = self.before_bn(self.conv1(activated))
        y = self.conv2(self.before_weight(norm_relu(self.norm2, y)))
        return join_channels(x, y)


class Transition(nn.Module):
    """norm ReLU conv1x1 to half the channels, then the mean over squares of 2 x 2 positions."""

    def __init__(self, inputs: int, norm: str):
        super().__init__()
        self.norm = image_norm(norm, inputs)
        self.conv = Conv2d(inputs, inputs // COMPRESSION, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, inputs, height, width] -> [..., batch, inputs / 2, height / 2, width / 2]."""
        return on_images(lambda images: F.avg_pool2d(images, 2), self.conv(norm_relu(self.norm, x)))


class DenseNet(Network):
    """Three blocks of `depth` dense layers with a transition between them.

    `width` is the growth rate, the channels that each dense layer adds; the stem has twice as many.
    DenseNet-BC with L = 100 layers and k = 12 has depth 16 and width 12.
    """

    def __init__(self, sample_shape: tuple[int, ...], classes: int, width: int, depth: int, norm: str):
        super().__init__()
        self.stem = Conv2d(sample_shape[0], 2 * width, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList()  # dense layers, and a transition after each block of them but the last
        channels = 2 * width
        for block in range(BLOCKS):
            if block > 0:
                self.blocks.append(Transition(channels, norm))
                channels //= COMPRESSION
            for _ in range(depth):
                self.blocks.append(DenseLayer(channels, width, norm))
                channels += width
        self.norm = image_norm(norm, channels)
        self.after_last_bn = NoiseSite("after_last_bn")
        self.classifier = Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, channels, height, width], at least 4 x 4 -> logits [..., batch, classes]."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = norm_relu(self.norm, x).mean((-2, -1))  # [..., batch, channels]
        return self.classifier(self.after_last_bn(x))

    def norm_inputs(self) -> list[NormInput]:
        """Return what each norm reads.

        A norm that reads a concatenation hears, in the channels that each dense layer of its block added, the
        site before that layer's last convolution. The channels that the block began with are clean: on their
        way from a site they passed the transition's norm. `layer` is there the convolution that came last, so
        that every convolution of the network is named once.
        """
        inputs = []
        layer, sources = "stem", ()
        for index, block in enumerate(self.blocks):
            name = f"blocks.{index}"
            if isinstance(block, Transition):
                inputs.append(NormInput(f"{name}.norm", layer, sources))
                layer, sources = f"{name}.conv", ()
            else:
                assert isinstance(block, DenseLayer)
                inputs.append(NormInput(f"{name}.norm1", layer, sources))
                inputs.append(NormInput(f"{name}.norm2", f"{name}.conv1", (Source(f"{name}.before_bn"),)))
                layer = f"{name}.conv2"
                sources += (Source(f"{name}.before_weight", layer, channels=block.added_channels),)
        return [*inputs, NormInput("norm", layer, sources)]
