"""What a user's batches are: how a model is called with one, where its labels are, how many samples it has."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Forward = Callable[[nn.Module, Any], Any]


class AuditError(Exception):
    """A network or data that cannot be audited, in a plain sentence."""


def call(model: nn.Module, batch: Any) -> Any:
    """Run the model on a batch.

    A tensor is the input, a mapping holds the keyword arguments of `forward`, and of a tuple or list the first
    items go in as far as `forward` requires positional arguments; what remains counts as labels. Tensors
    are moved to the device of the model.
    """
    parameter = next(model.parameters(), None)
    if parameter is not None:
        batch = _on_device(batch, parameter.device)
    if isinstance(batch, Mapping):
        return model(**batch)
    if isinstance(batch, tuple | list):
        inputs = batch[: _required_arguments(model, len(batch))]
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            return model(**inputs[0])
        return model(*inputs)
    return model(batch)


def labels_of(batch: Any) -> Tensor | None:
    """The class labels in a batch: the last item of a tuple, or the key `labels`; None where there are none."""
    labels = batch.get("labels") if isinstance(batch, Mapping) else None
    if isinstance(batch, tuple | list) and len(batch) > 1:
        labels = batch[-1]
    is_class = isinstance(labels, Tensor) and labels.dim() == 1 and not labels.is_floating_point()
    return labels if is_class else None


def logits_of(output: Any) -> Tensor | None:
    """The [batch, classes] scores in a model's output: itself, its `logits`, or its first such item."""
    if isinstance(output, Tensor):
        return output if output.dim() == 2 else None
    if hasattr(output, "logits"):
        return logits_of(output.logits)
    items = output.values() if isinstance(output, Mapping) else output
    if isinstance(items, Iterable):
        return next((item for item in items if isinstance(item, Tensor) and item.dim() == 2), None)
    return None


def size_of(batch: Any) -> int:
    """Samples in a batch: the length of its first tensor; 0 where it has none."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.dim() else 1
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    if isinstance(batch, tuple | list):
        return next((size for size in map(size_of, batch) if size), 0)
    return 0


def no_single_samples(batches: Iterable[Any]) -> Iterator[Any]:
    """The same batches, but one of a single sample joins its predecessor: BN cannot normalise by it alone."""
    held = None
    for batch in batches:
        if held is None:
            held = batch
        elif size_of(batch) == 1 or size_of(held) == 1:
            held = _joined(held, batch)
        else:
            yield held
            held = batch
    if held is not None:
        yield held


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, Tensor) and first.dim():
        return torch.cat([first, second])
    if isinstance(first, Mapping):
        return {key: _joined(first[key], second[key]) for key in first}
    if isinstance(first, tuple | list):
        return [_joined(a, b) for a, b in zip(first, second, strict=True)]
    return first


def _on_device(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: _on_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return [_on_device(item, device) for item in batch]
    return batch


def _required_arguments(model: nn.Module, given: int) -> int:
    """How many of the `given` items `forward` needs: its positional arguments without a default, at least 1."""
    parameters = inspect.signature(model.forward).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = sum(p.kind in positional and p.default is p.empty for p in parameters)
    return min(max(required, 1), given)
