"""What a BN layer shows in eval mode, and stored statistics with which it shows what is prescribed.

Per channel i of a layer, m_i and v_i being mean and unbiased variance of its input in eval mode over some samples,

    R_i = (v_i + eps) / (running_var_i + eps)                 variance ratio: 1 where BN divides rightly
    D_i = (m_i - running_mean_i) / sqrt(running_var_i + eps)  mean shift, in stored standard deviations

Any R and D can be prescribed. Shallow to deep, each layer's statistics are set right before it first runs, when
all layers before it are set: one pass, exact, unique, in networks with branches too. Moments are never taken from
another pass: behind other statistics they would be wrong.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn

from experiments.layers.norms import stores_statistics
from experiments.measuring.moments import Moments
from experiments.networks.network import Network

# What is prescribed or shown, by BN name: R and D, each [members, channels], in double precision.
Shown = dict[str, tuple[Tensor, Tensor]]
Prescription = Callable[[str, Tensor, Tensor], tuple[Tensor, Tensor]]  # name, m, v -> R, D

# The widest activation that a pass holds at once, over all samples and members.
WIDEST_BYTES = 256e6


def storing_norms(stack: Network) -> dict[str, nn.Module]:
    """Return the layers of a stack that store statistics, by name."""
    norms = {norm_input.norm: stack.get_submodule(norm_input.norm) for norm_input in stack.norm_inputs()}
    return {name: norm for name, norm in norms.items() if stores_statistics(norm)}


@torch.no_grad()
def prescribe(stack: Network, inputs: Tensor, prescription: Prescription) -> tuple[Tensor, Tensor]:
    """Set the stored statistics of a stack so that its BN layers show what is prescribed on inputs [N, ...].

    `prescription` is asked layer by layer, with the layer's name, m and v [members, channels]. A variance that
    would have to be below 0 (of a nearly constant channel, where eps rules) is stored as 0. Returns how many
    channels of each member [members] were cut so, and the logits of the inputs [members, N, classes].
    """
    norms = storing_norms(stack)
    cut = torch.zeros(_members(norms), dtype=torch.long, device=inputs.device)

    def set_statistics(name: str, norm: nn.Module) -> Callable:
        def before(_: nn.Module, arguments: tuple[Tensor]) -> None:
            moments = Moments()
            moments.update(stack.with_members(arguments[0]))
            ratio, shift = prescription(name, moments.mean, moments.variance)
            stored = (moments.variance + norm.eps) / ratio - norm.eps  # type: ignore[operator]
            cut.add_((stored < 0).sum(1))
            stored = stored.clamp(min=0)
            mean = moments.mean - shift * (stored + norm.eps).sqrt()  # type: ignore[operator]
            # Views, because a user's own network runs without a members dimension.
            norm.running_var.copy_(stored.view_as(norm.running_var))  # type: ignore[operator, union-attr, arg-type]
            norm.running_mean.copy_(mean.view_as(norm.running_mean))  # type: ignore[operator, union-attr, arg-type]

        return before

    with _hooked(norms, set_statistics):
        logits = stack.eval()(inputs.expand(len(cut), *inputs.shape))
    return cut, logits


@torch.no_grad()
def shown(stack: Network, inputs: Tensor) -> Shown:
    """Return R and D of every BN layer of a stack on inputs [N, *sample shape], its statistics as they are."""
    norms, found = storing_norms(stack), {}

    def look(name: str, norm: nn.Module) -> Callable:
        def before(_: nn.Module, arguments: tuple[Tensor]) -> None:
            moments = Moments()
            moments.update(stack.with_members(arguments[0]))
            found[name] = normalised(norm, moments.mean, moments.variance)

        return before

    with _hooked(norms, look):
        stack.eval()(inputs.expand(_members(norms), *inputs.shape))
    return found


def normalised(norm: nn.Module, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return R and D [members, channels] of a layer whose input has these moments in eval mode."""
    stored = norm.running_var.double() + norm.eps  # type: ignore[operator, union-attr]
    shift = (mean - norm.running_mean.double()) / stored.sqrt()  # type: ignore[operator, union-attr]
    return (variance + norm.eps) / stored, shift  # type: ignore[operator]


def rms(values: Tensor) -> Tensor:
    """Return the root mean square over channels, [members, channels] -> [members]."""
    return values.square().mean(1).sqrt()


def samples_at_once(inputs: Tensor, shapes: Mapping[str, Sequence[int]], copies: int = 1) -> Tensor:
    """Return the inputs over which moments are taken: all, or as many as a layer of these `shapes` can hold.

    `shapes` are those of one sample at each noise site, `copies` how often a sample is to be there. Taken evenly:
    a folder's first images may be of one class. All of a tensor are that tensor.
    """
    count = min(len(inputs), max(2, int(WIDEST_BYTES // (4 * _widest(shapes) * copies))))
    # Not files of images, which are read where they are asked for.
    if count == len(inputs) and isinstance(inputs, Tensor):
        return inputs
    return inputs[torch.arange(count) * len(inputs) // count]


def parts(
    stack: Network, members: int, samples: int, shapes: Mapping[str, Sequence[int]]
) -> Iterator[tuple[slice, Network]]:
    """Yield a stack in parts of as many of its members as may hold so many samples at once; all, if they may.

    Parts hold copies: what is done to their statistics leaves those of the stack. Of a user's own network they are
    of one member each.
    """
    size = 1 if stack.is_foreign else max(1, int(WIDEST_BYTES // (4 * _widest(shapes) * samples)))
    for start in range(0, members, size):
        rows = slice(start, min(start + size, members))
        yield rows, select(stack, torch.arange(rows.start, rows.stop))


def select(stack: Network, rows: Tensor) -> Network:
    """Return a stack of the members of these numbers, copied; one may be there several times."""
    chosen = deepcopy(stack)
    for module in chosen.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(
                module, name, nn.Parameter(parameter.detach()[rows], requires_grad=parameter.requires_grad)
            )
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer[rows])
    return chosen


def _widest(shapes: Mapping[str, Sequence[int]]) -> int:
    return max(torch.Size(shape).numel() for shape in shapes.values())


def _members(norms: Mapping[str, nn.Module]) -> int:
    return len(next(iter(norms.values())).running_var)  # type: ignore[arg-type]


@contextmanager
def _hooked(norms: Mapping[str, nn.Module], make: Callable[[str, nn.Module], Callable]) -> Iterator[None]:
    hooks = [norm.register_forward_pre_hook(make(name, norm)) for name, norm in norms.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
