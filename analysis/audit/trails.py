"""What is known of the activations of one forward pass: which noise is in them, and what they are without it."""

import weakref
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from analysis.audit.chain import Link


@dataclass
class Trail:
    """What is known of one activation.

    `clean`: the activation without the noise that entered since the last BN; None where it has none, or where
    following failed. `links`: that noise, by a number for each time that noise entered. `upstream`: the names of
    the noise from before the last BN.
    """

    clean: Tensor | None = None
    links: dict[int, Link] = field(default_factory=dict)
    upstream: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """All noise that ever reached this activation."""
        return self.upstream | {link.name for link in self.links.values()}

    @property
    def is_lost(self) -> bool:
        """Whether there is noise, but no activation without it."""
        return bool(self.links) and self.clean is None


class ByTensor:
    """A table by the identity of tensors, whose entries go when their tensor goes."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref, Any]] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def get(self, tensor: Tensor) -> Any:
        """The tensor's entry; None if it has none."""
        entry = self._entries.get(id(tensor))
        return entry[1] if entry and entry[0]() is tensor else None

    def put(self, tensor: Tensor, value: Any) -> None:
        """Set the tensor's entry; None takes it away."""
        key = id(tensor)
        if value is None:
            self._entries.pop(key, None)
            return

        def forget(reference: weakref.ref) -> None:
            entry = self._entries.get(key)
            if entry and entry[0] is reference:  # another tensor may have the number by now
                del self._entries[key]

        self._entries[key] = (weakref.ref(tensor, forget), value)
