"""What is seen of one BN layer."""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from analysis.audit.moments import GroupedMoments
from analysis.audit.trails import Trail


@dataclass
class Layer:
    """What was seen of one BN layer. All moments are of its input."""

    name: str
    norm: _BatchNorm
    calls: int = 0  # per forward in train mode
    # A stream of moments for each of `passes.MODES`:
    train: GroupedMoments = field(default_factory=GroupedMoments)
    clean: GroupedMoments = field(default_factory=GroupedMoments)
    eval: GroupedMoments = field(default_factory=GroupedMoments)
    fresh: GroupedMoments = field(default_factory=GroupedMoments)
    # And of the followed batches alone, in train mode:
    noisy_part: GroupedMoments = field(default_factory=GroupedMoments)  # as it is
    local_part: GroupedMoments = field(default_factory=GroupedMoments)  # without the layer's own noise
    added: float = 0.0  # sum of the variances that noise adds to each number of these, by the exact law
    numbers: int = 0  # how many these are
    own: dict[str, None] = field(default_factory=dict)  # names of its own noise, in order
    upstream: dict[str, None] = field(default_factory=dict)
    is_noisy: bool = False  # noise reaches it; where none does, the clean stream is the train stream
    is_followed: bool = True  # every noise of its own could be followed to it
    has_law: bool = True  # and the exact law holds on the way

    def note(self, x: Tensor, trail: Trail) -> None:
        """Note what following found out about its input x."""
        self.upstream |= dict.fromkeys(sorted(trail.upstream))
        if not trail.links:
            return
        self.own |= dict.fromkeys(link.name for link in trail.links.values())
        if trail.clean is None or trail.clean.shape != x.shape:
            self.is_followed = self.has_law = False
            return
        self.noisy_part.update(x)
        self.local_part.update(trail.clean)
        parts = [part for link in trail.links.values() if (part := link.added_variance()) is not None]
        if len(parts) < len(trail.links) or any(part.shape != x.shape for part in parts):
            self.has_law = False
        else:
            self.added += x.numel() * sum(part.mean(dtype=torch.float).item() for part in parts)
            self.numbers += x.numel()
