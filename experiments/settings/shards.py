"""Shards: the members of one job cut into several jobs, so that more cores or machines have work.

Shards take whole seeds while there are enough of them, because members of one seed are paired. The cut depends on
the members that the job wants alone, not on those that its study lacks: every machine finds the same.
"""

from collections.abc import Sequence
from itertools import chain, groupby, pairwise
from typing import TypeVar

from experiments.members import Member

T = TypeVar("T")


def shard_members(members: Sequence[Member], shards: int) -> list[list[Member]]:
    """Cut `members`, whose seeds stand one behind the other, into that many lists, none of them empty.

    Sizes differ by a seed at most; with more shards than seeds each seed is cut on its own, and sizes within it
    differ by a member at most. Raises ValueError for more shards than members.
    """
    by_seed = [list(of_seed) for _, of_seed in groupby(members, key=lambda member: member.seed)]
    if shards <= len(by_seed):
        return [list(chain.from_iterable(part)) for part in _cut(by_seed, shards)]
    if shards > len(members):
        raise ValueError(f"{len(members)} members are too few for {shards} shards")
    counts = map(len, _cut(range(shards), len(by_seed)))
    return [part for of_seed, count in zip(by_seed, counts, strict=True) for part in _cut(of_seed, count)]


def _cut(items: Sequence[T], parts: int) -> list[list[T]]:
    """Cut a list into so many parts whose lengths differ by one at most."""
    bounds = [part * len(items) // parts for part in range(parts + 1)]
    return [list(items[start:stop]) for start, stop in pairwise(bounds)]
