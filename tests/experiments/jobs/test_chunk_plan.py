"""The chunks of a job: every member once, what belongs together in one, and processes that end together."""

from math import ceil

import pytest
import torch

from experiments.jobs.chunk_plan import choose_chunks, chunk_capacity, plan_chunks
from tests.experiments.small import EVERYTHING, small_job

CPU = torch.device("cpu")


def sites(*shape: int) -> dict[str, tuple[int, ...]]:
    return {"blocks.0.before_bn": shape}


@pytest.mark.parametrize("capacity", [1, 2, 5, 11, 12, 30, 500])
def test_a_plan_holds_every_member_once_and_no_chunk_too_many(capacity):
    members = small_job(EVERYTHING | {"seed": [0, 1, 2, 3, 4]}).members
    chunks = plan_chunks(members, capacity)
    assert sorted(str(m) for chunk in chunks for m in chunk) == sorted(map(str, members))
    assert all(0 < len(chunk) <= capacity for chunk in chunks)
    assert all(len({m.placement for m in chunk} - {"none"}) <= 1 for chunk in chunks)
    assert chunks == plan_chunks(list(reversed(members)), capacity)


def test_capacity_is_at_least_one_and_falls_with_width():
    assert chunk_capacity(sites(16), 64, CPU) > chunk_capacity(sites(256), 64, CPU) > 1
    assert chunk_capacity(sites(10**9), 64, CPU) == 1
    assert chunk_capacity(sites(1, 1, 1), 64, CPU) == 1  # images


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("width", [512, 2048, 8192])
def test_chosen_chunks_of_wide_members_keep_all_processes_busy(width, processes):
    members = small_job(EVERYTHING | {"seed": list(range(12))}).members
    chunks = choose_chunks(members, sites(width), 64, CPU, processes)
    assert sorted(str(m) for chunk in chunks for m in chunk) == sorted(map(str, members))
    busy = [0] * processes
    for chunk in sorted(chunks, key=len, reverse=True):
        busy[busy.index(min(busy))] += len(chunk)
    assert max(busy) <= 1.35 * ceil(len(members) / processes)


def test_wide_members_are_cut_finer_than_narrow_ones():
    members = small_job(EVERYTHING | {"seed": list(range(12))}).members
    narrow, wide = (choose_chunks(members, sites(width), 64, CPU, 2) for width in (16, 8192))
    assert len(narrow) < len(wide)
