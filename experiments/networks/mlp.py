"""A multilayer perceptron with a normalisation layer in every block."""

import math

from torch import Tensor, nn

from experiments.layers.linear import Linear
from experiments.layers.norms import feature_norm, norm_relu
from experiments.networks.network import Network, NoiseSite, NormInput, chain_norm_inputs


class Block(nn.Module):
    """[noise] -> Linear -> [noise] -> norm -> ReLU. The linear layer has no bias: BN would remove it."""

    def __init__(self, inputs: int, width: int, norm: str, first: bool):
        super().__init__()
        # Before the first weight layer stands the data: noise there would be another experiment.
        self.before_weight = None if first else NoiseSite("before_weight")
        self.linear = Linear(inputs, width, bias=False)
        self.before_bn = NoiseSite("before_bn")
        self.norm = feature_norm(norm, width)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, inputs] -> [..., batch, width]."""
        if self.before_weight is not None:
            x = self.before_weight(x)
        return norm_relu(self.norm, self.before_bn(self.linear(x)))


class MLP(Network):
    """`depth` blocks of `width` units, then one noise site after the last norm, then a linear classifier."""

    needs_images = False

    def __init__(self, sample_shape: tuple[int, ...], classes: int, width: int, depth: int, norm: str):
        super().__init__()
        self.sample_dims = len(sample_shape)
        sizes = [math.prod(sample_shape), *[width] * depth]
        self.blocks = nn.ModuleList(
            Block(inputs, width, norm, first=index == 0) for index, inputs in enumerate(sizes[:-1])
        )
        self.after_last_bn = NoiseSite("after_last_bn")
        self.classifier = Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, *sample shape], samples of any shape flattened -> logits [..., batch, classes]."""
        x = self.vectors(x)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.after_last_bn(x))

    def vectors(self, x: Tensor) -> Tensor:
        """Return what the first block reads: x [..., batch, *sample shape] -> [..., batch, features]."""
        if self.sample_dims == 3:
            # the order in which images lie in memory, so that flattening copies nothing
            x = x.movedim(-3, -1)
        return x.flatten(-self.sample_dims)

    def norm_inputs(self) -> list[NormInput]:
        """Return what each block's norm reads: noise straight in, and noise through the block's linear layer."""
        return chain_norm_inputs(len(self.blocks), "linear")
