"""Activation checkpointing, which runs a part of the network twice in a training step."""

import sys

import torch.utils.checkpoint


def is_checkpointed() -> bool:
    """Whether torch's checkpoint is among the callers."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == torch.utils.checkpoint.__file__:
            return True
        frame = frame.f_back
    return False
