"""A user's batches: how a model is called with one, its labels, its size, the tensors in its nests."""

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

Forward = Callable[[nn.Module, Any], Any]
Size = Callable[[Any], int]

NOT_RECORDS = ("builtins", "torch", "numpy")  # packages whose objects hold no batch as attributes
LABELS = ("labels", "label", "y")  # keys or attributes


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

    A tensor is the input, a mapping holds the keyword arguments of `forward` (without those that it does not
    take), and of a tuple or list the first items go in as far as `forward` requires positional arguments; what
    remains counts as labels. Tensors are moved to the device of the model.
    """
    parameter = next(model.parameters(), None)
    if parameter is not None:
        batch = _moved(batch, parameter.device)
    if isinstance(batch, Mapping):
        return model(**_accepted_arguments(model, batch))
    if isinstance(batch, tuple | list):
        inputs = batch[: _required_arguments(model, len(batch))]
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            return model(**_accepted_arguments(model, inputs[0]))
        return model(*inputs)
    return model(batch)


def _moved(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device)
    is_object = not isinstance(batch, Mapping | tuple | list)
    if (
        is_object and device.type != "cpu" and callable(move := getattr(batch, "to", None))
    ):  # as graphs have it
        moved = move(device)
        return batch if moved is None else moved
    return map_tensors(batch, lambda tensor: tensor.to(device))


def labels_of(batch: Any) -> Tensor | None:
    """The class labels, of samples or pixels, see `_last`; None without."""
    labels = _last(batch)
    is_class = labels is not None and labels.dim() > 0 and not labels.is_floating_point()
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
    """Samples in a batch: as many as there are labels; without, the length of its first tensor that is not empty.

    1 for a single number, 0 without a tensor. Where there are several labels a sample, it is the first tensor too.
    """
    first = next((tensor for tensor in tensors_of(batch) if tensor.numel()), None)
    if first is None or not first.dim():
        return 0 if first is None else 1
    labels = _last(batch)
    if labels is None or not labels.dim() or not len(labels):
        return len(first)
    is_edges = first.dim() == 2 == len(first) and not first.is_floating_point()  # of a graph: from, to
    has_several = (
        len(labels) > len(first) and len(labels) % len(first) == 0 and first.dim() > 1 and not is_edges
    )
    return len(first) if has_several else len(labels)


def _last(batch: Any) -> Tensor | None:
    """Where labels are, of classes or not: the last item of a tuple, the key or attribute of `LABELS`."""
    if isinstance(batch, tuple | list):
        labels = batch[-1] if len(batch) > 1 else None
    elif isinstance(batch, Tensor):
        labels = None
    else:
        get = batch.get if isinstance(batch, Mapping) else lambda name: getattr(batch, name, None)
        labels = next((found for name in LABELS if (found := get(name)) is not None), None)
    return labels if isinstance(labels, Tensor) else None


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


def _accepted_arguments(model: nn.Module, batch: Mapping) -> dict[str, Any]:
    """Of the mapping what `forward` takes: without labels, names and the like if it has no room for them."""
    parameters = inspect.signature(model.forward).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return {key: value for key, value in batch.items() if takes_any or key in parameters}


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


def tensors_of(batch: Any) -> list[Tensor]:
    """Every tensor in a batch, also where it is an object, or holds some, that has tensors as attributes."""
    tensors, waiting, seen = [], [batch], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            tensors.append(value)
        elif id(value) not in seen:
            seen.add(id(value))
            waiting += reversed(_items_of(value))
    return tensors


def _items_of(value: Any) -> list[Any]:
    if isinstance(value, tuple | list):
        return list(value)
    if isinstance(value, Mapping):
        return list(value.values())
    return list(vars(value).values()) if _is_record(value) else []


def _is_record(value: Any) -> bool:
    """Whether a batch is an object of somebody's class that has its tensors as attributes, as a graph."""
    cls = type(value)
    return (
        hasattr(value, "__dict__") and not callable(value) and cls.__module__.split(".")[0] not in NOT_RECORDS
    )


def shell_of(value: Any) -> Any:
    """The same tensors in a nest of their own: what is taken out or put in leaves the old one alone."""
    if isinstance(value, Tensor) or not (isinstance(value, tuple | list | Mapping) or _is_record(value)):
        return value
    if type(value) in (tuple, list):
        items = [shell_of(item) for item in value]
        return tuple(items) if type(value) is tuple else items
    if type(value) is dict:
        return {key: shell_of(item) for key, item in value.items()}
    try:
        return copy.copy(value)
    except Exception:  # the user's classes may raise anything
        return value


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
