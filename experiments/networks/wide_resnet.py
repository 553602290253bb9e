"""The wide residual network of Zagoruyko & Komodakis (arXiv 1605.07146), for small images."""

from torch import Tensor

from experiments.layers.norms import norm_relu_beside
from experiments.networks.preactivation import PreActivationNet
from experiments.networks.preresnet import BasicBlock

STEM_WIDTH = 16  # whatever the width of the stages


class WideBlock(BasicBlock):
    """A basic pre-activation block whose shortcut, where it changes shape, projects the activated input."""

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, inputs, height, width] -> [..., batch, width, height / stride, width / stride]."""
        activated, x = norm_relu_beside(self.norm1, x)
        return self.branch(activated, x if self.shortcut is None else self.shortcut(activated))


class WideResNet(PreActivationNet):
    """Three stages of `depth` wide blocks, the first of `width` channels: 16 times the widening factor.

    WRN-28-10 has depth 4 and width 160. Its own dropout, where it has one, stands at the site `before_weight`.
    """

    def __init__(self, sample_shape: tuple[int, ...], classes: int, width: int, depth: int, norm: str):
        super().__init__(sample_shape, classes, width, depth, norm, stem_width=STEM_WIDTH, block=WideBlock)
