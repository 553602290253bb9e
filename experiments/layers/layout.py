"""How activations of a stack of members lie in memory.

On a CPU the batch lies last: vectors [members, batch, features] are laid out as [members, features, batch],
images [members, batch, channels, height, width] as [members, height, width, channels, batch]. Layers then
work on a vector of samples at a time, whatever the number of features or channels; see `experiments.kernels`.

Elsewhere, and where `takes_batch_last` says no, torch's own operations compute: members are folded into the
channels of one network, as the groups of one convolution, and images that come with their channels last stay
so. A single member is squeezed out and unsqueezed back in, both views, also backward, where indexing would
copy.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from experiments.kernels.machine import has_kernels, lanes


def takes_batch_last(x: Tensor) -> bool:
    """Say whether stacked activations like x are to lie batch last: on a CPU, at least a vector of samples.

    Not images in reduced precision, whose convolutions are torch's.
    """
    if x.dim() not in (3, 5) or not has_kernels(x):
        return False
    return x.shape[1] >= lanes(x.dtype) and (x.dim() == 3 or not torch.is_autocast_enabled("cpu"))


def batch_last(x: Tensor) -> Tensor:
    """[members, batch, channels, height, width] -> [members, height, width, channels, batch], contiguous.

    And [members, batch, features] -> [members, features, batch]. A copy if x lies otherwise; images that all
    members share are copied once.
    """
    if x.dim() == 3:
        return x.mT.contiguous()
    if x.shape[0] > 1 and x.stride(0) == 0:
        return batch_last(x[:1]).expand(len(x), -1, -1, -1, -1)
    samples = x.permute(0, 1, 3, 4, 2)
    # Data, [batch, height * width * channels]: torch copies a transposed matrix several times as fast.
    if len(x) == 1 and samples.is_contiguous():
        matrix = samples[0].flatten(1)
        return matrix.t().contiguous().view(1, *samples.shape[2:], len(matrix))
    return x.permute(0, 3, 4, 2, 1).contiguous()


def batch_last_rows(x: Tensor) -> Tensor:
    """As `batch_last`, but channels of images may be some of more: a copy only if pixels do not follow evenly."""
    if x.dim() == 5:
        y = x.permute(0, 3, 4, 2, 1)
        width, batch = y.shape[2], y.shape[4]
        row, pixel, *inner = y.stride()[1:]
        if inner == [batch, 1] and row == width * pixel:
            return y
    return batch_last(x)


def batch_first(x: Tensor) -> Tensor:
    """Undo `batch_last`, without a copy."""
    return x.mT if x.dim() == 3 else x.permute(0, 4, 3, 1, 2)


def empty_activations(count: int, batch: int, sample_shape: Sequence[int], device: torch.device) -> Tensor:
    """Return an unset tensor [count, batch, *sample_shape], laid out in memory as activations are.

    A product with activations then reads both in order. Vectors lie as [count, features, batch]. Images lie
    on a CPU as [count, height, width, channels, batch], on other devices as [count, batch, height, width,
    channels].
    """
    if len(sample_shape) == 1:
        return torch.empty((count, *sample_shape, batch), device=device).mT
    channels, *space = sample_shape
    if device.type == "cpu":
        return batch_first(torch.empty(count, *space, channels, batch))
    return torch.empty((count, batch, *space, channels), device=device).movedim(-1, 2)


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


def on_images(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a `function` of images [batch, channels, height, width] that treats channels alike, such as pooling.

    x [..., batch, channels, height, width] -> [..., batch, channels, ...].
    """
    if x.dim() == 4:
        return function(x)
    if not takes_batch_last(x):
        return function(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    # To torch, every channel of every sample is a channel, last in memory, of one image a member.
    images = batch_last(x)
    y = function(images.flatten(3).movedim(3, 1)).movedim(1, 3)
    return batch_first(y.unflatten(3, images.shape[3:]))


def join_channels(x: Tensor, y: Tensor) -> Tensor:
    """Concatenate images [..., channels, height, width] along their channels, without laying them out anew."""
    if x.dim() == 4:
        return torch.cat([x, y], 1)
    if takes_batch_last(x):
        return batch_first(torch.cat([batch_last(x), batch_last(y)], 3))
    return torch.cat([x.movedim(-3, -1), y.movedim(-3, -1)], -1).movedim(-1, -3)
