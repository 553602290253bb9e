"""A data set of the user's own: whatever a function of theirs loads, as tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from experiments.checks import ConfigError
from experiments.targets import bad_target, call_target, said

from .dataset import Data

ALLOWED = (
    "a function load() that returns (train, test), each a pair (inputs, labels) of tensors or arrays, or a torch "
    "Dataset of such samples"
)
Error = Callable[[str, str], ConfigError]  # of what is wrong, and what is allowed


def load_custom(*, target: str, source: str) -> Data:
    """Load what the function of `target` returns; inputs stay as they are, as float32.

    Raises ConfigError for what it raises, and for what cannot be trained on.
    """
    error = partial(bad_target, "data", target)
    parts = call_target("data", target, source, ALLOWED)
    if not isinstance(parts, tuple | list) or len(parts) != 2:
        raise error(f"it returns {_kind(parts)}", ALLOWED)
    train, train_labels = _samples("train", parts[0], error)
    test, test_labels = _samples("test", parts[1], error)
    if train.shape[1:] != test.shape[1:]:
        shapes = f"{list(train.shape[1:])} in train, {list(test.shape[1:])} in test"
        raise error(f"its samples have shape {shapes}", "one shape of all samples")
    found = train_labels.unique()
    classes = len(found)
    if classes < 2 or not found.equal(torch.arange(classes)) or not torch.isin(test_labels, found).all():
        spans = f"{_span(train_labels)} in train, {_span(test_labels)} in test"
        raise error(f"its labels are {spans}", "0 to K - 1, at least two, each of them in train")
    tensors = (train, train_labels, test, test_labels)
    return Data("custom", *tensors, classes, fingerprint=_fingerprint(tensors))


def _samples(name: str, part: Any, error: Error) -> tuple[Tensor, Tensor]:
    """Return inputs [N, *sample shape] and labels [N] of a part."""
    try:
        if isinstance(part, Dataset):
            inputs, labels = zip(*(part[index] for index in range(len(part))), strict=True)  # type: ignore[arg-type]
            part = torch.stack([torch.as_tensor(x) for x in inputs]), torch.as_tensor(labels)
        inputs, labels = map(torch.as_tensor, part)
    except Exception as fault:  # whatever torch, or the user's data set, has to say
        raise error(f"its {name} part, {_kind(part)}, cannot be read: {said(fault)}", ALLOWED) from fault
    if inputs.dim() < 2 or inputs.numel() == 0 or labels.shape != inputs.shape[:1]:
        shapes = f"inputs {list(inputs.shape)} and labels {list(labels.shape)}"
        raise error(f"its {name} part has {shapes}", "inputs [N, ...] and labels [N], not empty")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise error(f"its {name} labels are {labels.dtype}", "whole numbers, such as torch.int64")
    if inputs.is_complex() or not (inputs := inputs.detach().cpu().float().contiguous()).isfinite().all():
        raise error(f"not all of its {name} inputs are finite real numbers in float32", "finite real numbers")
    return inputs, labels.cpu().long()


def _kind(value: Any) -> str:
    return f"{len(value)} values" if isinstance(value, tuple | list) else f"a {type(value).__name__}"


def _span(labels: Tensor) -> str:
    return f"{int(labels.min())} to {int(labels.max())} ({len(labels.unique())} different)"


def _fingerprint(tensors: Sequence[Tensor]) -> str:
    hash_of_all = hashlib.sha256()
    for tensor in tensors:
        hash_of_all.update(f"{list(tensor.shape)}\0".encode())
        hash_of_all.update(tensor.numpy().tobytes())
    return f"{len(tensors[1])} + {len(tensors[3])} samples, contents {hash_of_all.hexdigest()[:16]}"
