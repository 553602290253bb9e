"""The precision of products in training."""

from contextlib import AbstractContextManager, nullcontext

import torch


def products_in(precision: str, device: torch.device) -> AbstractContextManager:
    """Return a context in which convolutions multiply in `precision`.

    In bfloat16 their outputs, and what is made of them elementwise, are rounded to 8 significant bits, too.
    Weights, momentum, the classifier, losses, and the statistics of normalisation and their sums stay in float32.
    """
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)
