"""Batches as the audit reads them: single samples join the batch beside them, or are left out."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from .batches import AuditError, Size, check_batches, reason, size_of, tensors_of

_NOTHING = object()  # a batch may be None, where `forward` makes the data


class Batches:
    """The same batches, but a single sample beside a larger batch joins it: BN cannot normalise by it alone.

    Where it cannot join, as a sample of another shape, it is left out, and `left_out` counts it. Single samples
    among themselves stay, as the images of a segmentation network do.

    Raises AuditError if `batches` are no batches, if reading them fails, and for a batch without samples.
    """

    def __init__(self, batches: Iterable[Any], size: Size | None = None):
        check_batches(batches)
        self._batches, self._size = batches, size
        self.left_out = 0

    def __iter__(self) -> Iterator[Any]:
        previous: Any = _NOTHING
        is_open = True  # to one sample from behind: not to any number of them, which would fill the memory
        for batch in self._read():
            sizes = (0 if previous is _NOTHING else self.size_of(previous), self.size_of(batch))
            if previous is _NOTHING:
                previous = batch
            elif 1 == sizes[0] < sizes[1] or (is_open and 1 == sizes[1] < sizes[0]):
                joined = _joined(previous, batch, sizes)
                is_open = joined is None or sizes[0] == 1
                self.left_out += joined is None
                larger = batch if sizes[0] == 1 else previous
                previous = larger if joined is None else joined
            else:
                yield previous
                previous, is_open = batch, True
        if previous is not _NOTHING:
            yield previous

    def size_of(self, batch: Any) -> int:
        """Samples in a batch, by the user's function if there is one."""
        if self._size is None:
            return size_of(batch)
        try:
            return int(self._size(batch))
        except Exception as error:  # the user's function may raise anything
            raise AuditError(
                f"size= failed: {reason(error)}; it takes a batch and returns its samples."
            ) from error

    def _read(self) -> Iterator[Any]:
        number = 0
        try:
            for number, batch in enumerate(self._batches, 1):
                if tensors_of(batch) and self.size_of(batch) == 0:
                    raise AuditError(f"Batch {number} has 0 samples: leave it out.")
                yield batch
        except AuditError:
            raise
        except Exception as error:  # the user's data may raise anything
            raise AuditError(f"Reading batch {number + 1} of the data failed: {reason(error)}.") from error


def _joined(first: Any, second: Any, sizes: tuple[int, int]) -> Any:
    """Both batches as one; None where they do not fit."""
    try:
        return _join(first, second, sizes)
    except Exception:  # shapes, keys or types that differ, or a class of the user's
        return None


def _join(first: Any, second: Any, sizes: tuple[int, int]) -> Any:
    if isinstance(first, Tensor):
        if not first.dim() or (first.shape == second.shape and len(first) != sizes[0]):
            return first  # the same for all samples
        return torch.cat([_of_length(first, sizes[0]), _of_length(second, sizes[1])])
    if isinstance(first, Mapping):
        if set(first) != set(second):
            raise KeyError("other keys")
        return {key: _join(first[key], second[key], sizes) for key in first}
    if isinstance(first, tuple | list):
        if (len(first), len(second)) == sizes:  # an item for each sample, say its name
            return [*first, *second]
        return [_join(a, b, sizes) for a, b in zip(first, second, strict=True)]
    if first is None or isinstance(first, str | bytes | int | float):
        return first
    raise TypeError(f"objects of type {type(first).__name__}")


def _of_length(tensor: Tensor, size: int) -> Tensor:
    if len(tensor) != size:
        raise ValueError(f"{len(tensor)} rows of {size} samples")
    return tensor
