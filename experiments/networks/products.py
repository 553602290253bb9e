"""Matrix products on a CPU by whichever of torch's two libraries is faster at their size.

torch multiplies matrices with MKL, which on AMD uses half the width of the vector unit. Its other library, oneDNN,
uses all of it, but multiplies two matrices a call. One thread of an AMD EPYC (Zen 5), GFLOP/s of a product and a
copy into the stack, batch 64:

    width                          64     128     256     512
    MKL, batched                   90      94      96      99
    oneDNN, a member a call        33      90     169     210
"""

import torch
from torch import Tensor

# From this many operations a product on, oneDNN wins; below, the cost of its calls weighs more.
ONEDNN_OPERATIONS = 1 << 22


def product(a: Tensor, b: Tensor) -> Tensor:
    """a [n, k] @ b [k, m], fastest where a and the transpose of b are contiguous."""
    return _onednn_product(a, b) if _suits_onednn(a, b) else a @ b


def stacked_product(a: Tensor, b: Tensor) -> Tensor:
    """a [members, n, k] @ b [members, k, m] -> [members, n, m], contiguous."""
    if _suits_onednn(a[0], b[0]):
        return torch.stack([_onednn_product(x, y) for x, y in zip(a.unbind(), b.unbind(), strict=True)])
    return torch.bmm(a, b)


def transposed_stacked_product(a: Tensor, b: Tensor) -> Tensor:
    """b^T a^T of a [members, n, k] and b [members, k, m] -> [members, m, n], contiguous.

    oneDNN multiplies a b, the faster way round, and transposes the result.
    """
    if _suits_onednn(a[0], b[0]):
        return torch.stack([_onednn_product(x, y).mT for x, y in zip(a.unbind(), b.unbind(), strict=True)])
    return torch.bmm(b.mT, a.mT)


def _onednn_product(a: Tensor, b: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(a, b.mT, None, "none", [], "")


def _suits_onednn(a: Tensor, b: Tensor) -> bool:
    operations = 2 * a.shape[0] * a.shape[1] * b.shape[1]
    if operations < ONEDNN_OPERATIONS or a.device.type != "cpu" or a.dtype != torch.float32:
        return False
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
