"""Networks whose trouble is not noise: batches that differ, shared layers, single channels, odd batches."""

import torch
from torch import Tensor, nn

from analysis.audit import adjust
from tests.analysis.audit.audit_models import mlp, vectors


def sorted_batches(classes: int = 10, batch: int = 60, apart: float = 2.0) -> list[Tensor]:
    """Batches of one class each, whose means are `apart` standard deviations from each other."""
    generator = torch.Generator().manual_seed(0)
    centres = apart * torch.randn(classes, 16, generator=generator) / 2**0.5
    return [centres[index % classes] + x for index, x in enumerate(vectors(2 * classes, batch))]


def shuffled(batches: list[Tensor], seed: int = 0) -> list[Tensor]:
    """The same samples in random batches."""
    rows = torch.cat(batches)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    return list(rows[order].split(len(batches[0])))


class Steps(nn.Module):
    """A recurrent network with one BN layer for its steps, in which the state grows."""

    def __init__(self, steps: int = 4, growth: float = 2.0):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.norm = nn.Linear(16, 16), nn.BatchNorm1d(16)
        self.steps, self.growth = steps, growth

    def forward(self, x: Tensor) -> Tensor:
        state = 0 * x
        for step in range(self.steps):
            state = torch.tanh(self.norm(self.growth**step * self.layer(x) + state))
        return state


class Pair(nn.Module):
    """A siamese network with one BN layer for both domains."""

    def __init__(self, other: float):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.other = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16)), other

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.body(x.flip(0) + self.other)


def sound(batches: list[Tensor], width: int = 64) -> nn.Sequential:
    """A network that stores what it gets."""
    return adjust(mlp(width=width), batches).eval()
