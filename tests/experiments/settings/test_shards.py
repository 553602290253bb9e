"""Shards: how members are cut, and that nothing depends on the cut."""

import shutil
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.checks import ConfigError
from experiments.members import Member
from experiments.settings import config
from experiments.settings.shards import shard_members
from tests.experiments.command_line import plan, results
from tests.experiments.counting import count_calls


def members(seeds: int, each: int) -> list[Member]:
    return [
        Member("before_bn", "dropout", rate / 100, seed, 0.1, 0.0)
        for seed in range(seeds)
        for rate in range(each)
    ]


@given(st.integers(1, 7), st.integers(1, 9), st.data())
def test_shards_hold_every_member_once_in_order_and_are_even(seeds, each, data):
    whole = members(seeds, each)
    shards = data.draw(st.integers(1, len(whole)))
    cut = shard_members(whole, shards)
    assert len(cut) == shards
    assert list(chain.from_iterable(cut)) == whole
    if shards <= seeds:  # whole seeds
        assert sum(len({member.seed for member in shard}) for shard in cut) == seeds
        assert max(map(len, cut)) - min(map(len, cut)) in (0, each)
    else:  # never two seeds in one shard
        assert all(len({member.seed for member in shard}) == 1 for shard in cut)


def test_too_many_shards_are_refused():
    with pytest.raises(ValueError, match="6 members are too few for 7 shards"):
        shard_members(members(2, 3), 7)


def test_a_plan_knows_every_shard_of_every_job_and_what_a_launcher_makes_it_of():
    planned = plan("+sweep=variance_shift", "model.width=16,64", "job.shards=3")
    assert [(job.model.width, job.cut.shard) for job in planned.jobs] == [
        (width, shard) for width in (16, 64) for shard in (1, 2, 3)
    ]
    assert [sorted({m.seed for m in job.members}) for job in planned.jobs[:3]] == [[0], [1, 2], [3, 4]]
    assert len({job.name for job in planned.jobs}) == 6
    assert {job.setting_name for job in planned.jobs} == {
        job.setting_name for job in plan("+sweep=variance_shift", "model.width=16,64").jobs
    }
    assert [plan(*planned.overrides[job.name]).jobs for job in planned.jobs] == [
        [job] for job in planned.jobs
    ]
    (single,) = plan("job.shards=3", "job.shard=2").jobs
    assert single.cut.shard == 2


def test_each_member_is_named_once_however_its_job_is_cut(monkeypatch):
    named = count_calls(monkeypatch, config, "astuple")  # of a member
    jobs = plan("members.seed=[0,1,2,3,4,5]", "job.shards=6").jobs
    assert len({job.name for job in jobs}) == 6
    assert named.total() == sum(len(job.members) for job in jobs)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("job.shards=11", "job.shards=11: allowed is at most 10, the members of a job"),
        ("job.shards=0", "job.shards=0: allowed is a whole number of at least 1"),
        (
            "job.shards=2 job.shard=3",
            "job.shard=3: allowed is null, or a whole number from 1 to job.shards=2",
        ),
        ("job.retry=always", "job.retry=always: allowed is one of failed, none"),
        ("study.retry=failed", "study.retry=failed: no such key; did you mean job.retry?"),
        ("+sweep=variance_shift job.shards=2,3", "job.shards=2,3: allowed is one number for all jobs"),
        ("job=2", "job=2: allowed is null (jobs are whole) or a section of keys, written {key: value}"),
    ],
)
def test_what_cannot_be_cut_is_refused_in_a_line(typed, line):
    with pytest.raises(ConfigError) as raised:
        plan(*typed.split())
    assert str(raised.value) == line


@pytest.mark.long
def test_tables_are_the_same_to_the_bit_however_a_job_is_cut_and_finished_members_stay(run, tmp_path, tiny):
    arguments = [*tiny, "members.seed=[0,1]", "members.dropout.rate=[0.5]"]  # 6 members, not all alike
    study = tmp_path / "out" / "first_look"
    assert run(*arguments, "study=whole").status == 0
    expected = results(tmp_path / "out" / "whole")
    for shards in (2, 5):
        assert run(*arguments, f"study=cut{shards}", f"job.shards={shards}").status == 0
        assert len(list((tmp_path / "out" / f"cut{shards}" / "jobs").iterdir())) == shards
        assert results(tmp_path / "out" / f"cut{shards}") == expected

    # One shard first; any other cut goes on from there, and trains what is missing alone.
    one = run(*arguments, "job.shards=2", "job.shard=1")
    assert one.status == 0
    assert results(study)["members.csv"] == expected["members.csv"][:3]
    finer = run(*arguments, "job.shards=5")
    assert finer.status == 0
    assert "grow: 3 of 6 members are there; training 3" in finer.err
    assert results(study) == expected
    # Now every member is there, and any cut is content.
    for shards in (1, 2, 3):
        again = run(*arguments, f"job.shards={shards}")
        assert again.status == 0
        assert "grow: all 6 members are there" in again.err
        assert results(study) == expected
    # A part that is lost is made up for, and nothing is there twice.
    shutil.rmtree(next((study / "jobs").iterdir()))
    assert run(*arguments, "job.shards=6").status == 0
    assert results(study) == expected
