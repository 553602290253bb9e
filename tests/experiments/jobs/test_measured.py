"""What a killed job has measured: it is not trained or measured again, and the tables are those of no kill."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from experiments.jobs import checkpoint, chunk, measured
from experiments.jobs.checkpoint import find_checkpoints
from experiments.jobs.job import run_job
from experiments.jobs.job_data import cached_data
from experiments.jobs.measured import take_measured
from experiments.measuring.transplant import missing_twins, noise_free
from experiments.settings.config import make_job
from experiments.study.part import job_tables, part_folder, work_folder
from experiments.study.tables import read_table
from experiments.study.weights import read_weights, weights_there
from tests.experiments.small import small_job

TIMES = ["seconds", "seconds_measuring"]
SPEC = {
    "seed": [0, 1],
    "none": False,  # its twins are trained all the same
    "save": True,
    "dropout": {"rate": [0.5], "placement": ["before_bn", "before_weight"]},
    "uout": None,
    "gaussian": None,
}


def job_in(folder):
    config = small_job(SPEC).config | {"output": str(folder), "chunk": 2}
    return make_job(config | {"measure": {"draws": 1, "interventions": True, "flips": 3}})


@pytest.fixture
def job(tmp_path):
    return job_in(tmp_path)


def killed_at(monkeypatch, job, number: int) -> None:
    """Run `job` until it begins its chunk `number`, counted from 0."""
    run_chunk, begun = chunk.run_chunk, []

    def run_or_die(job, members, *arguments):
        begun.append(members)
        if len(begun) > number:
            raise KeyboardInterrupt
        return run_chunk(job, members, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(chunk, "run_chunk", run_or_die)
        with pytest.raises(KeyboardInterrupt):
            run_job(job)


def run_and_count(monkeypatch, job) -> list[list]:
    """Run `job` to its end; return the chunks that it trained."""
    run_chunk, trained = chunk.run_chunk, []

    def count(job, members, *arguments):
        trained.append(members)
        return run_chunk(job, members, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(chunk, "run_chunk", count)
        run_job(job)
    return trained


def tables_and_weights(job) -> tuple[dict[str, pd.DataFrame], dict]:
    folder = part_folder(job)
    assert (folder / "done.json").exists()
    tables = {name: pd.DataFrame(read_table(folder / name)) for name in job_tables(job)}
    recorded = weights_there(folder)
    weights = {member: read_weights(folder, member, recorded) for member in job.members}
    return {name: table.drop(columns=TIMES, errors="ignore") for name, table in tables.items()}, weights


def assert_same(one, two) -> None:
    (tables, weights), (other_tables, other_weights) = one, two
    for name, table in tables.items():
        pd.testing.assert_frame_equal(table, other_tables[name], check_exact=True)
    assert weights.keys() == other_weights.keys()
    for member, state in weights.items():
        assert state.keys() == other_weights[member].keys()
        assert all(value.equal(other_weights[member][name]) for name, value in state.items())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    job = job_in(tmp_path_factory.mktemp("undisturbed"))
    run_job(job)
    return tables_and_weights(job)


@pytest.mark.parametrize("number", [1, 2])
def test_only_the_chunks_that_were_not_measured_are_trained(job, undisturbed, monkeypatch, number):
    killed_at(monkeypatch, job, number)
    assert not part_folder(job).exists()
    trained = run_and_count(monkeypatch, job)
    assert len(trained) == 3 - number
    assert_same(tables_and_weights(job), undisturbed)


def test_all_chunks_measured_and_the_kill_before_the_tables(job, undisturbed, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("experiments.jobs.job.finish_part", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            run_job(job)
    assert run_and_count(monkeypatch, job) == []
    assert_same(tables_and_weights(job), undisturbed)


def test_another_part_takes_its_members_whichever_part_measured_them(job, undisturbed, monkeypatch):
    """Here a shard of half of the members, and the baseline, which the killed job had trained as a twin."""
    killed_at(monkeypatch, job, 2)
    places = find_checkpoints(job, cached_data(job.data))
    there = [member for member, place in places.items() if place.measured]
    assert len(there) == 4
    noisy = [member for member in job.members if member in there]
    shard = replace(job, members=noisy[:1])
    trained = run_and_count(monkeypatch, shard)
    assert all(set(members) <= set(missing_twins(shard)) for members in trained)
    tables, weights = undisturbed
    mine, my_weights = tables_and_weights(shard)
    index = job.members.index(noisy[0])
    pd.testing.assert_frame_equal(
        mine["members.csv"], tables["members.csv"].iloc[[index]].reset_index(drop=True), check_exact=True
    )
    for name, value in my_weights[noisy[0]].items():
        assert value.equal(weights[noisy[0]][name])


def test_members_without_the_weights_that_are_wanted_now_are_trained_again(job, monkeypatch):
    without = replace(job, spec={**job.spec, "save": False})
    assert without.name == job.name
    killed_at(monkeypatch, without, 2)
    data = cached_data(job.data)
    places = find_checkpoints(job, data)
    members = [*job.members, *missing_twins(job)]
    there = [member for member in members if member in places]
    assert len(take_measured(without, members, places, {})["members.csv"]) == len(there) == 4
    twins: dict = {}
    taken = take_measured(job, members, places, twins)
    assert [row["placement"] for row in taken.get("members.csv", [])] == ["none"] * len(twins)
    trained = [member for members in run_and_count(monkeypatch, job) for member in members]
    assert set(job.members) <= set(trained)
    assert tables_and_weights(job)[1].keys() == set(job.members)


def test_rows_of_other_columns_and_files_that_are_gone_are_not_taken(job, monkeypatch):
    killed_at(monkeypatch, job, 1)
    places = find_checkpoints(job, cached_data(job.data))
    members = list(places)
    assert len(take_measured(job, members, places, {})["members.csv"]) == 2
    with monkeypatch.context() as patch:
        patch.setattr(measured, "TABLES", {"members.csv": ["of_another_version"]})
        assert take_measured(job, members, places, {}) == {}
    for place in places.values():
        place.file.unlink(missing_ok=True)
    assert take_measured(job, members, places, {}) == {}


def test_rows_that_cannot_be_kept_are_said_and_in_the_tables_all_the_same(
    job, undisturbed, monkeypatch, capsys
):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "x.checkpoint")

    monkeypatch.setattr(measured, "write_checkpoint", full)
    run_job(job)
    assert_same(tables_and_weights(job), undisturbed)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all("2 measured members are not on disk: [Errno 28] No space left" in line for line in lines)


def test_a_chunk_that_is_measured_takes_the_place_of_its_checkpoint(job, monkeypatch):
    job = replace(job, recipe=replace(job.recipe, checkpoint_every=1))
    killed_at(monkeypatch, job, 2)
    files = [*(work_folder(job) / checkpoint.FOLDER).iterdir()]
    assert len(files) == 2
    places = find_checkpoints(job, cached_data(job.data))
    assert all(place.measured and place.epoch == job.recipe.epochs for place in places.values())
    state = checkpoint.read_checkpoint(files[0])
    assert "momentum" not in state
    kept = {noise_free(member) for member in places}
    twins: dict = {}
    take_measured(job, places, places, twins)
    assert twins.keys() <= kept
    assert all(isinstance(value, torch.Tensor) for twin in twins.values() for value in twin.values())
