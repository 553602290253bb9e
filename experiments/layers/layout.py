"""How activations of a stack of members lie in memory on a CPU: the batch last.

Vectors [members, batch, features] are laid out as [members, features, batch], images [members, batch, channels,
height, width] as [members, height, width, channels, batch]. Layers then work on a vector of samples at a time,
whatever the number of features or channels; see `experiments.kernels`.
"""

import torch
from torch import Tensor

from experiments.kernels.machine import lanes


def takes_batch_last(x: Tensor) -> bool:
    """Say whether stacked activations like x are to lie batch last: on a CPU, at least a vector of samples.

    Not images in reduced precision, whose convolutions are torch's.
    """
    if x.device.type != "cpu" or x.dim() not in (3, 5) or x.dtype not in (torch.float32, torch.float64):
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
    if (
        len(x) == 1 and samples.is_contiguous()
    ):  # data: torch copies a transposed matrix several times as fast
        matrix = samples[0].flatten(1)  # [batch, height * width * channels]
        return matrix.t().contiguous().view(1, *samples.shape[2:], len(matrix))
    return x.permute(0, 3, 4, 2, 1).contiguous()


def batch_first(x: Tensor) -> Tensor:
    """Undo `batch_last`, without a copy."""
    return x.mT if x.dim() == 3 else x.permute(0, 4, 3, 1, 2)
