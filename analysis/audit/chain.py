"""What the closure predicts of a network that is a chain which it knows: Linear -> BN -> ReLU, under dropout.

Known is a plain `nn.Sequential` (also of such) of torch's own modules, none used twice, without hooks,
parametrisations or a `forward` of its own, in which every block is alike:

    [Flatten] then blocks of [Dropout] Linear [Dropout] BatchNorm1d ReLU; behind the last BN whatever is in `KNOWN`

with one rate of dropout, straight before every BN, or before every Linear but the first. Of any other network
nothing is said.

The closure (`analysis.theory.closure`) has no biases. Under noise before the weights they cancel in BN and are
left out. Under noise straight before BN they do not: there each layer gets one more unit, which is 1 whatever the
noise, and the biases are its weights.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..theory.closure import Block, Noise, predict_mlp
from ..theory.noises import FAMILIES
from .batches import labels_of

# No two begin with the same letter.
KNOWN = (nn.Flatten, nn.Identity, nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout)
SAMPLES = 4096  # that are kept to predict for, so that memory does not grow with the data
ENTRIES = 1 << 22  # of covariances, all classes of one layer: of more, a prediction would take seconds


class Chain:
    """A chain that the closure knows, and the first samples that its audit saw."""

    def __init__(self, names: list[str], linears: list[nn.Linear], norms: list[nn.BatchNorm1d], noise: Noise):
        self._names, self._linears, self._norms, self._noise = names, linears, norms, noise
        self._inputs: list[Tensor] = []
        self._labels: list[Tensor] | None = []

    def note(self, batch: Any) -> None:
        """Keep a batch, a pair of inputs and class labels; after one that is none nothing is predicted."""
        if self._labels is None or sum(map(len, self._labels)) >= SAMPLES:
            return
        labels = labels_of(batch)
        inputs = batch[0] if isinstance(batch, tuple | list) and len(batch) == 2 else None
        if (
            not isinstance(inputs, Tensor)
            or labels is None
            or labels.shape != inputs.shape[:1]
            or inputs.dim() < 2
            or inputs.shape[1:].numel() != self._linears[0].in_features
        ):
            self._labels = None
            return
        self._inputs.append(inputs.detach().flatten(1).float().cpu().clone())
        self._labels.append(labels.detach().cpu().clone())

    def predicted(self) -> dict[str, float]:
        """Return the cumulative shift ratio of each BN layer by its name; nothing where it cannot be told."""
        if not self._labels:
            return {}
        inputs, labels = torch.cat(self._inputs), torch.cat(self._labels)
        widest = max(linear.out_features for linear in self._linears)
        if len(labels.unique()) * (widest + 1) ** 2 > ENTRIES:
            return {}
        blocks = [_block(linear, norm) for linear, norm in zip(self._linears, self._norms, strict=True)]
        if self._noise.placement == "before_bn":
            inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], 1)
            blocks = [_with_bias(block, linear) for block, linear in zip(blocks, self._linears, strict=True)]
        found = predict_mlp(inputs, labels, blocks, [self._noise], self._norms[0].eps)
        return {name: float(of.shift_ratio) for name, of in zip(self._names, found, strict=True)}


def known_chain(model: nn.Module) -> Chain | None:
    """Return the chain that a model is; None for a model of which that is not certain."""
    leaves = list(_leaves(model, ""))
    modules = list(model.modules())
    if len({id(module) for _, module in leaves}) < len(leaves) or not all(map(_is_plain, modules)):
        return None
    if any(type(module) not in KNOWN for _, module in leaves):
        return None
    steps = [(name, module) for name, module in leaves if not _does_nothing(module)]
    first = steps[0][1] if steps else None
    if isinstance(first, nn.Flatten) and (first.start_dim, first.end_dim) == (1, -1):
        steps = steps[1:]
    places = [place for place, (_, module) in enumerate(steps) if isinstance(module, nn.BatchNorm1d)]
    blocks = [steps[start:end] for start, end in pairwise([0, *(place + 1 for place in places)])]
    return _of_blocks(blocks) if blocks else None


def _of_blocks(blocks: list[list[tuple[str, nn.Module]]]) -> Chain | None:
    """Return the chain of blocks that end in BN each; a block begins with the ReLU of the one before."""
    before_weight, before_bn = [], []
    for index, block in enumerate(blocks):
        initials = "".join(type(module).__name__[0] for _, module in block)
        found = re.fullmatch("R" * (index > 0) + "(D?)L(D?)B", initials)
        if found is None:
            return None
        rates = iter([module.p for _, module in block if isinstance(module, nn.Dropout)])
        before_weight.append(next(rates) if found[1] else 0.0)
        before_bn.append(next(rates) if found[2] else 0.0)
    modules = [module for block in blocks for _, module in block]
    linears = [module for module in modules if isinstance(module, nn.Linear)]
    norms = [module for module in modules if isinstance(module, nn.BatchNorm1d)]
    noise = _noise(before_weight, before_bn)
    fits = [linear.out_features for linear in linears] == [norm.num_features for norm in norms]
    stores = all(norm.track_running_stats for norm in norms)
    if noise is None or not fits or not stores or len({norm.eps for norm in norms}) > 1:
        return None
    return Chain([block[-1][0] for block in blocks], linears, norms, noise)


def _noise(before_weight: list[float], before_bn: list[float]) -> Noise | None:
    """Return the noise of these rates, one a block; None where the blocks differ, or are noisy in two places."""
    first, others = before_weight[0], {*before_weight[1:]} or {0.0}
    rates = {"before_weight": others, "before_bn": {*before_bn}}
    noisy = {place: max(of) for place, of in rates.items() if max(of) > 0}
    if first > 0 or any(len(of) > 1 for of in rates.values()) or len(noisy) != 1:
        return None
    ((placement, rate),) = noisy.items()
    return Noise(FAMILIES["dropout"], rate, placement) if rate < 1 else None


def _leaves(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that a nest of plain Sequentials runs, in order, each as often as it runs."""
    if type(module) is not nn.Sequential:
        yield name, module
        return
    for key, child in module._modules.items():
        yield from _leaves(child, f"{name}.{key}" if name else key)


def _is_plain(module: nn.Module) -> bool:
    """Whether nothing but its class says what a module does."""
    return not (module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _does_nothing(module: nn.Module) -> bool:
    return isinstance(module, nn.Identity) or (isinstance(module, nn.Dropout) and module.p == 0)


def _block(linear: nn.Linear, norm: nn.BatchNorm1d) -> Block:
    ones = torch.ones(norm.num_features)
    scale, shift = (ones, 0 * ones) if norm.weight is None else (norm.weight, norm.bias)
    return Block(*(tensor.detach().float().cpu()[None] for tensor in (linear.weight, scale, shift)))


def _with_bias(block: Block, linear: nn.Linear) -> Block:
    """Return the block with one more input and unit, which are 1, and the bias as that input's weights."""
    units, inputs = linear.weight.shape
    weight = torch.zeros(1, units + 1, inputs + 1)
    weight[:, :units, :inputs] = block.weight
    if linear.bias is not None:
        weight[0, :units, inputs] = linear.bias.detach().float().cpu()
    scale, shift = F.pad(block.scale, (0, 1), value=0.0), F.pad(block.shift, (0, 1), value=1.0)
    return Block(weight, scale, shift)
