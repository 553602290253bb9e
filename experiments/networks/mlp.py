"""A multilayer perceptron with batch normalisation in every block."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from experiments.networks.layers import BatchNorm, Linear
from experiments.networks.network import Network, NormInput, Source
from experiments.noise import NoiseSite


class Block(nn.Module):
    """[noise] -> Linear -> [noise] -> BN -> ReLU. The linear layer has no bias: BN would remove it."""

    def __init__(self, inputs: int, width: int, first: bool):
        super().__init__()
        # Before the first weight layer stands the data: noise there would be another experiment.
        self.before_weight = None if first else NoiseSite("before_weight")
        self.linear = Linear(inputs, width, bias=False)
        self.before_bn = NoiseSite("before_bn")
        self.bn = BatchNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, inputs] -> [..., batch, width]."""
        if self.before_weight is not None:
            x = self.before_weight(x)
        return F.relu(self.bn(self.before_bn(self.linear(x))))


class MLP(Network):
    """`depth` blocks of `width` units, then one noise site after the last BN, then a linear classifier."""

    def __init__(self, sample_shape: tuple[int, ...], classes: int, width: int, depth: int):
        super().__init__()
        self.inputs = math.prod(sample_shape)
        sizes = [self.inputs, *[width] * depth]
        self.blocks = nn.ModuleList(
            Block(inputs, width, first=index == 0) for index, inputs in enumerate(sizes[:-1])
        )
        self.after_last_bn = NoiseSite("after_last_bn")
        self.classifier = Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., batch, *sample shape], samples of any shape flattened -> logits [..., batch, classes]."""
        if x.shape[-1] != self.inputs:
            x = x.flatten(-3)  # images [channels, height, width]
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.after_last_bn(x))

    def norm_inputs(self) -> list[NormInput]:
        """Return what each block's BN reads: noise straight in, and noise through the block's linear layer."""
        inputs = []
        for index in range(len(self.blocks)):
            block, layer = f"blocks.{index}", f"blocks.{index}.linear"
            sources = [Source(f"{block}.before_bn")]
            if index > 0:
                sources.append(Source(f"{block}.before_weight", layer))
            inputs.append(NormInput(f"{block}.bn", layer, tuple(sources)))
        return inputs
