"""Which members train side by side: the chunks of a job."""

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence

import torch

from experiments.members import Member

Shapes = Mapping[str, tuple[int, ...]]  # of one sample at each noise site

# A chunk's activations at all noise sites, in bytes, measured on the default sweep: up to here more members dilute
# the cost of calling torch; beyond, a core's cache holds too little of them.
CACHE_BYTES = 3_000_000
# That cost of a step, as the bytes of activations that take as long.
CALLS_BYTES = 300_000
# On a GPU memory is the bound: the share of it for those activations, of which autograd keeps several copies.
GPU_SHARE = 0.05


def plan_chunks(members: Sequence[Member], capacity: int) -> list[list[Member]]:
    """Cut members into chunks of at most `capacity` that share as much as possible.

    Members of one placement use the same sites, members of one seed the same batches and draws: a chunk holds
    one placement (the noiseless baseline rides with `after_last_bn`, whose only site costs least) and whole
    seeds where they fit. Within a chunk neighbours share learning rate and weight decay, and so an update, and
    then the seed, and so the draws.
    The plan depends on the arguments alone, never on the machine's load.
    """
    chunks = []
    placement = lambda member: "after_last_bn" if member.placement == "none" else member.placement  # noqa: E731
    for name in sorted({placement(member) for member in members}):
        group = [member for member in members if placement(member) == name]
        group.sort(key=lambda m: (m.seed, m.noise, m.strength, m.lr, m.weight_decay))
        per_seed = max(Counter(member.seed for member in group).values())
        size = capacity // per_seed * per_seed or capacity
        pieces = -(-len(group) // size)
        even = -(-len(group) // pieces)
        step = -(-even // per_seed) * per_seed if size >= per_seed else even
        chunks += [group[start : start + step] for start in range(0, len(group), step)]
    for chunk in chunks:
        chunk.sort(key=lambda m: (m.lr, m.weight_decay, m.seed, m.noise, m.strength))
    return chunks


def member_bytes(shapes: Shapes, batch: int) -> int:
    """Return the bytes of one member's activations at all of its noise sites."""
    return 4 * batch * sum(torch.Size(shape).numel() for shape in shapes.values())


def chunk_capacity(shapes: Shapes, batch: int, device: torch.device) -> int:
    """Return how many members, at least one, may train side by side, judged by their activations at all sites.

    Convolutional members train alone on a CPU: convolutions fill it by themselves, so that a stack of them is no
    faster and only divides less evenly among processes.
    """
    bound = CACHE_BYTES
    if device.type == "cuda":
        bound = int(GPU_SHARE * torch.cuda.get_device_properties(device).total_memory)
    elif any(len(shape) > 1 for shape in shapes.values()):
        return 1
    return max(1, bound // member_bytes(shapes, batch))


def choose_chunks(
    members: Sequence[Member], shapes: Shapes, batch: int, device: torch.device, processes: int
) -> list[list[Member]]:
    """Cut members into chunks with which `processes` are done soonest.

    Large chunks share the cost of calling torch among many members, but divide unevenly among processes.
    """
    largest = min(chunk_capacity(shapes, batch, device), len(members))
    plans = [plan_chunks(members, max(1, largest * sixths // 6)) for sixths in range(6, 0, -1)]
    calls = CALLS_BYTES / member_bytes(shapes, batch)
    return min(plans, key=lambda chunks: _longest_share([len(chunk) + calls for chunk in chunks], processes))


def _longest_share(costs: Sequence[float], processes: int) -> float:
    """Return when the last process is done, if each takes the costliest chunk left as soon as it is free."""
    busy = [0.0] * processes
    for cost in sorted(costs, reverse=True):
        heapq.heapreplace(busy, busy[0] + cost)
    return max(busy)
