"""Layers that work alike for one network and for a stack of networks.

A layer whose parameters have their usual shape is the torch layer it derives from. When
`experiments.training.stack` has given its parameters a leading members dimension, it maps [members, batch, ...]
to [members, batch, ...], each member with its own parameters. A network built of these layers and of elementwise
operations, with dimensions counted from the end, is therefore written once.

On a CPU activations lie in memory as `experiments.layers.layout` says, and layers keep them so. Elsewhere
the members are the groups of one convolution, and images that come with their channels last stay so; a single
member is squeezed out and unsqueezed back in, both views, also backward, where indexing would copy.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.layers.layout import batch_first, batch_last, takes_batch_last
from experiments.layers.stacked_linear import StackedLinear


class Linear(nn.Linear):
    """y = x W^T + b. x [..., batch, in_features] -> [..., batch, out_features]."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer of one network or of each member of a stack."""
        device = input.device.type
        # Only convolutions are for autocast, which there is not on every device (not on torch's meta device, say).
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return self.forward(input.to(self.weight.dtype))
        if self.weight.dim() == 2:
            return super().forward(input)
        y: Tensor = StackedLinear.apply(input, self.weight)  # type: ignore[assignment]
        return y if self.bias is None else y + self.bias.unsqueeze(-2)


class Conv2d(nn.Conv2d):
    """Convolution of images. x [..., batch, in_channels, height, width] -> [..., batch, out_channels, ...].

    Square, with zero padding and without a bias.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer of one network or of each member of a stack."""
        if self.weight.dim() == 4:
            return super().forward(input)
        if takes_batch_last(input):
            from experiments.layers.stacked_convolution import StackedConvolution  # which imports LLVM

            geometry = self.stride[0], int(self.padding[0]), self.groups
            return StackedConvolution.apply(input, self.weight, *geometry)  # type: ignore[return-value]
        folded = F.conv2d(
            fold_members(input),
            self.weight.flatten(0, 1),
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.groups * len(self.weight),
        )
        return unfold_members(folded, len(self.weight))


def on_images(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a `function` of images [batch, channels, height, width] that treats channels alike, such as pooling.

    x [..., batch, channels, height, width] -> [..., batch, channels, ...].
    """
    if x.dim() == 4:
        return function(x)
    if not takes_batch_last(x):
        return function(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    # To torch, every channel of every sample is a channel, last in memory, of one image a member.
    laid = batch_last(x)
    made = function(laid.flatten(3).movedim(3, 1)).movedim(1, 3)
    return batch_first(made.unflatten(3, laid.shape[3:]))


def join_channels(x: Tensor, y: Tensor) -> Tensor:
    """Concatenate images [..., channels, height, width] along their channels, without laying them out anew."""
    if takes_batch_last(x):
        return batch_first(torch.cat([batch_last(x), batch_last(y)], 3))
    return torch.cat([x.movedim(-3, -1), y.movedim(-3, -1)], -1).movedim(-1, -3)


def fold_members(x: Tensor) -> Tensor:
    """[members, batch, channels, height, width] -> [batch, members * channels, height, width].

    And [members, batch, features] -> [1, members * features, batch], which as vectors lie needs no copy: to torch,
    the samples are then positions in one image.
    """
    if x.dim() == 3:
        return x.mT.flatten(0, 1).unsqueeze(0)
    return x.squeeze(0) if len(x) == 1 else x.movedim(0, 1).flatten(1, 2)


def unfold_members(x: Tensor, members: int) -> Tensor:
    """Undo `fold_members`."""
    if x.dim() == 3:
        return x.squeeze(0).unflatten(0, (members, -1)).mT
    return x.unsqueeze(0) if members == 1 else x.unflatten(1, (members, -1)).movedim(1, 0)
