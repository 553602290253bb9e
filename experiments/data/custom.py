"""A data set of the user's own: whatever a function of theirs loads, as tensors."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from experiments.targets import bad_target, call_target, said

from .dataset import Data

ALLOWED = (
    "a function load() that returns (train, test), each a pair (inputs, labels) of tensors or arrays, or a torch "
    "Dataset of such samples"
)


def load_custom(*, target: str, source: str) -> Data:
    """Load what the function of `target` returns; inputs stay as they are, as float32.

    Raises ConfigError for what it raises, and for what cannot be trained on.
    """
    loaded = _Loaded(target)
    parts = call_target("data", target, source, ALLOWED)
    if not isinstance(parts, tuple | list) or len(parts) != 2:
        raise loaded.error(f"it returns {_kind(parts)}", ALLOWED)
    (train_inputs, train_labels), (test_inputs, test_labels) = (
        loaded.part(name, part) for name, part in zip(("train", "test"), parts, strict=True)
    )
    if train_inputs.shape[1:] != test_inputs.shape[1:]:
        shapes = " and ".join(str(list(inputs.shape[1:])) for inputs in (train_inputs, test_inputs))
        raise loaded.error(f"train and test samples have shapes {shapes}", "one shape of all samples")
    classes = int(train_labels.max()) + 1
    there = train_labels.unique()
    if (
        classes < 2
        or len(there) != classes
        or int(there[0]) != 0
        or int(test_labels.min()) < 0
        or int(test_labels.max()) >= classes
    ):
        found = f"{_span(train_labels)} in train, {_span(test_labels)} in test"
        raise loaded.error(f"its labels are {found}", "0 to K - 1, at least two, each of them in train")
    tensors = (train_inputs, train_labels, test_inputs, test_labels)
    return Data("custom", *tensors, classes, fingerprint=_fingerprint(tensors))


class _Loaded:
    """What the function of a target returned."""

    def __init__(self, target: str):
        self.target = target

    def error(self, fault: str, allowed: str) -> Exception:
        return bad_target("data", self.target, fault, allowed)

    def part(self, name: str, part: Any) -> tuple[Tensor, Tensor]:
        """Return inputs [N, *sample shape] and labels [N] of a part."""
        try:
            if isinstance(part, Dataset):
                samples = [part[index] for index in range(len(part))]  # type: ignore[arg-type]
                inputs, labels = zip(*samples, strict=True)
                part = torch.stack([torch.as_tensor(x) for x in inputs]), torch.as_tensor(labels)
            inputs, labels = map(torch.as_tensor, part)
        except Exception as error:  # whatever torch, or the user's data set, has to say
            raise self.error(
                f"its {name} part, {_kind(part)}, cannot be read: {said(error)}", ALLOWED
            ) from error
        if inputs.dim() < 2 or inputs.numel() == 0 or labels.shape != inputs.shape[:1]:
            shapes = f"inputs {list(inputs.shape)} and labels {list(labels.shape)}"
            raise self.error(
                f"its {name} part has {shapes}", "inputs [N, ...] and labels [N], of at least one number"
            )
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise self.error(f"its {name} labels are {labels.dtype}", "whole numbers, such as torch.int64")
        if inputs.is_complex():
            raise self.error(f"its {name} inputs are {inputs.dtype}", "real numbers")
        inputs = inputs.detach().float().contiguous()
        if not inputs.isfinite().all():
            count = int((~inputs.isfinite()).sum())
            raise self.error(
                f"{count} numbers of its {name} inputs are infinite or nan in float32", "finite numbers"
            )
        return inputs, labels.long()


def _kind(value: Any) -> str:
    return f"{len(value)} values" if isinstance(value, tuple | list) else f"a {type(value).__name__}"


def _span(labels: Tensor) -> str:
    return f"{int(labels.min())} to {int(labels.max())} ({len(labels.unique())} different)"


def _fingerprint(tensors: tuple[Tensor, ...]) -> str:
    hash_of_all = hashlib.sha256()
    for tensor in tensors:
        hash_of_all.update(f"{list(tensor.shape)}\0".encode())
        hash_of_all.update(tensor.cpu().numpy().tobytes())
    return f"{len(tensors[1])} + {len(tensors[3])} samples, contents {hash_of_all.hexdigest()[:16]}"
