"""A user's batches: how a model is called with one, its labels, its size, the tensors in its nests."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

Forward = Callable[[nn.Module, Any], Any]


class AuditError(Exception):
    """A network or data that cannot be audited, in a plain sentence."""


def reason(error: BaseException) -> str:
    """An exception of somebody else's code in one line: its type and what it says.

    Of a traceback in it, as a loader's worker sends it, only the last line counts.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any("Traceback (most recent call last)" in line for line in lines):
        lines = [lines[0], lines[-1]]
    return ": ".join([type(error).__name__, *([" ".join(lines)[:300]] if lines else [])])


def call(model: nn.Module, batch: Any) -> Any:
    """Run the model on a batch.

    A tensor is the input, a mapping holds the keyword arguments of `forward` (without `labels` if it takes none),
    and of a tuple or list the first items go in as far as `forward` requires positional arguments; what remains
    counts as labels. Tensors are moved to the device of the model.
    """
    parameter = next(model.parameters(), None)
    if parameter is not None:
        batch = map_tensors(batch, lambda tensor: tensor.to(parameter.device))
    if isinstance(batch, Mapping):
        return model(**_accepted_arguments(model, batch))
    if isinstance(batch, tuple | list):
        inputs = batch[: _required_arguments(model, len(batch))]
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            return model(**_accepted_arguments(model, inputs[0]))
        return model(*inputs)
    return model(batch)


def labels_of(batch: Any) -> Tensor | None:
    """The class labels, of samples or pixels: the last item of a tuple, or the key `labels`; None without."""
    labels = batch.get("labels") if isinstance(batch, Mapping) else None
    if isinstance(batch, tuple | list) and len(batch) > 1:
        labels = batch[-1]
    is_class = isinstance(labels, Tensor) and labels.dim() > 0 and not labels.is_floating_point()
    return labels if is_class else None


def scores_of(output: Any, labels: Tensor) -> Tensor | None:
    """The scores [batch, classes, *positions] in a model's output that fit labels [batch, *positions].

    They are the output itself, its `logits`, or the first tensor in it of that shape; None where there are none.
    """
    for tensor in tensors_in([getattr(output, "logits", None), output]):
        if tensor.dim() == labels.dim() + 1 and (len(tensor), *tensor.shape[2:]) == tuple(labels.shape):
            return tensor
    return None


def size_of(batch: Any) -> int:
    """Samples in a batch: the length of its first tensor that is not empty, 1 for a single number; 0 without."""
    sizes = (len(tensor) if tensor.dim() else 1 for tensor in tensors_in(batch))
    return next((size for size in sizes if size), 0)


def join_leftovers(batches: Iterable[Any]) -> Iterator[Any]:
    """The same batches, but a single sample beside a larger batch joins it: BN cannot normalise by it alone.

    Single samples among themselves stay, as the images of a segmentation network do.

    Raises AuditError if `batches` are no batches, if reading them fails, and for a batch without samples.
    """
    check_batches(batches)
    previous = None
    is_open = True  # to one sample from behind: not to any number of them, which would fill the memory
    for batch in _read(batches):
        if previous is None:
            previous = batch
        elif size_of(previous) == 1 < size_of(batch):
            previous = _joined(previous, batch)
        elif is_open and size_of(batch) == 1 < size_of(previous):
            previous, is_open = _joined(previous, batch), False
        else:
            yield previous
            previous, is_open = batch, True
    if previous is not None:
        yield previous


def _read(batches: Iterable[Any]) -> Iterator[Any]:
    number = 0
    try:
        for number, batch in enumerate(batches, 1):
            if tensors_in(batch) and size_of(batch) == 0:
                raise AuditError(f"Batch {number} has 0 samples: leave it out.")
            yield batch
    except AuditError:
        raise
    except Exception as error:  # the user's data may raise anything
        raise AuditError(f"Reading batch {number + 1} of the data failed: {reason(error)}.") from error


def check_batches(batches: Any) -> None:
    """Raise AuditError, with the mend, for what people give instead of an iterable of batches."""
    if isinstance(batches, Dataset) and not isinstance(batches, IterableDataset):
        raise AuditError(
            "The data are a Dataset, whose items are single samples: wrap it, DataLoader(dataset, batch_size=64)."
        )
    if isinstance(batches, Tensor):
        raise AuditError("The data are one tensor: put it in a list, [x], or split it, x.split(64).")
    if isinstance(batches, str | bytes | Mapping) or not isinstance(batches, Iterable):
        raise AuditError(
            f"The data are of type {type(batches).__name__}: allowed is an iterable of batches, say a DataLoader."
        )


def _joined(first: Any, second: Any) -> Any:
    try:
        return _join(first, second)
    except Exception as error:
        raise AuditError(
            f"A single sample cannot join the batch beside it, {reason(error)}: leave it out, with "
            "DataLoader(..., drop_last=True)."
        ) from error


def _join(first: Any, second: Any) -> Any:
    if isinstance(first, Tensor) and first.dim():
        return torch.cat([first, second])
    if isinstance(first, Mapping):
        return {key: _join(first[key], second[key]) for key in first}
    if isinstance(first, tuple | list):
        return [_join(a, b) for a, b in zip(first, second, strict=True)]
    return first


def _accepted_arguments(model: nn.Module, batch: Mapping) -> dict[str, Any]:
    """The mapping without its labels, if `forward` does not take them."""
    parameters = inspect.signature(model.forward).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return {key: value for key, value in batch.items() if key != "labels" or takes_any or key in parameters}


def _required_arguments(model: nn.Module, given: int) -> int:
    """How many of the `given` items `forward` needs: its positional arguments without a default, at least 1."""
    parameters = inspect.signature(model.forward).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = sum(p.kind in positional and p.default is p.empty for p in parameters)
    return min(max(required, 1), given)


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor in a nest, in order."""
    tensors: list[Tensor] = []
    _collect(value, tensors)
    return tensors


def _collect(value: Any, tensors: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        tensors.append(value)
    elif isinstance(value, tuple | list):
        for item in value:
            _collect(item, tensors)
    elif isinstance(value, Mapping):
        for item in value.values():
            _collect(item, tensors)


def map_tensors(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """The same nest with `function` of its tensors; mappings become dicts, everything else stays as it is."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a named tuple
        return type(value)(*(map_tensors(item, function) for item in value))
    if type(value) in (tuple, list):
        return type(value)(map_tensors(item, function) for item in value)
    if isinstance(value, Mapping):
        return {key: map_tensors(item, function) for key, item in value.items()}
    return value
