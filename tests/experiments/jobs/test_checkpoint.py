"""Checkpoints: a killed job goes on from where its training stood, and ends as if nobody had killed it."""

import json
import os
import signal
from dataclasses import replace

import pandas as pd
import pytest
import torch

from experiments.jobs import checkpoint
from experiments.jobs.checkpoint import (
    find_checkpoints,
    load_state,
    remove_work,
    save_checkpoint,
    split_by_epoch,
)
from experiments.jobs.job import run_job
from experiments.networks import build_network
from experiments.study.inventory import take_inventory
from experiments.study.part import work_folder
from experiments.training.stack import ChunkNoise, site_shapes, stack_members
from experiments.training.train import TrainingState, train_stack
from tests.experiments.command_line import TABLES, started, wait_for
from tests.experiments.small import EVERYTHING, RECIPE, small_data, small_job

DATA = small_data()
SPEC = EVERYTHING | {"uout": None, "gaussian": None}


def train(members, start=None, keep=lambda state: None):
    job = small_job(SPEC, recipe={"epochs": 4})

    def build(seed):
        return build_network(job.model, DATA.sample_shape, DATA.classes, seed)

    stack = stack_members(members, build)
    noise = ChunkNoise(stack, site_shapes(build(0), DATA.train_inputs[:2]), members, torch.device("cpu"))
    outcome = train_stack(stack, members, noise, DATA, replace(RECIPE, epochs=4), start=start, keep=keep)
    return stack.state_dict(), outcome


@pytest.fixture
def saved(tmp_path):
    """A job in tmp_path whose members stand after epoch 3, in one file."""
    job = small_job(SPEC)
    job = replace(job, output=str(tmp_path))

    def keep(state: TrainingState) -> None:
        if state.epoch == 3:
            save_checkpoint(job, DATA, job.members, state)

    weights, outcome = train(job.members, keep=keep)
    return job, weights, outcome


def test_training_from_a_checkpoint_ends_where_unbroken_training_does(saved):
    job, weights, outcome = saved
    places = find_checkpoints(job, DATA)
    assert {place.epoch for place in places.values()} == {3}
    again, same_outcome = train(job.members, start=load_state(job.members, places))
    assert same_outcome == outcome
    assert len(outcome.epochs) == 4
    assert all(value.equal(again[name]) for name, value in weights.items())


def test_members_are_found_when_chunks_are_cut_otherwise(saved):
    job, weights, outcome = saved
    places = find_checkpoints(job, DATA)
    some = [job.members[index] for index in (5, 2)]
    again, same_outcome = train(some, start=load_state(some, places))
    for row, member in enumerate(some):
        index = job.members.index(member)
        for name, value in weights.items():
            torch.testing.assert_close(again[name][row], value[index], rtol=1e-5, atol=1e-5)
        assert [len(epoch["train_loss"]) for epoch in same_outcome.epochs] == [2] * 4
        first = same_outcome.epochs[0]["train_loss"][row]
        assert first == outcome.epochs[0]["train_loss"][index]


def test_the_latest_epoch_counts_and_chunks_are_cut_where_it_differs(saved):
    job, _, _ = saved
    few = job.members[:2]
    train(few, keep=lambda state: save_checkpoint(job, DATA, few, state))
    places = find_checkpoints(job, DATA)
    assert [places[member].epoch for member in job.members] == [4, 4] + [3] * (len(job.members) - 2)
    chunks = split_by_epoch([job.members[:4], job.members[4:]], places)
    assert chunks == [job.members[2:4], job.members[:2], job.members[4:]]
    del places[job.members[5]]
    assert load_state(job.members[4:], places) is None
    assert split_by_epoch([job.members[4:6]], places) == [[job.members[5]], [job.members[4]]]


def cut(content: bytes) -> bytes:
    return content[:-1]


def flip(content: bytes) -> bytes:
    return content[:-1000] + bytes([content[-1000] ^ 1]) + content[-999:]


@pytest.mark.parametrize(
    "damage", [cut, flip, lambda content: b"", lambda content: b"x" * 99, lambda content: b"[]\n{}"]
)
def test_a_damaged_checkpoint_is_never_used_and_said_to_be(saved, damage, capsys):
    job, _, _ = saved
    (file,) = (work_folder(job) / "checkpoints").iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert find_checkpoints(replace(job, members=job.members[:2]), DATA) == {}
    assert capsys.readouterr().err == ""  # it is not this part's to remove
    assert find_checkpoints(job, DATA) == {}
    assert capsys.readouterr().err.startswith(f"{file}: removed, its members start over: ")
    assert not file.exists()


@pytest.mark.timeout(60)
def test_a_torn_checkpoint_is_removed_and_a_pipe_not_waited_for(saved):
    job, _, _ = saved
    folder = work_folder(job) / "checkpoints"
    (whole,) = folder.iterdir()
    (folder / ".1.checkpoint.partial").write_bytes(b"torn")
    assert len(find_checkpoints(job, DATA)) == len(job.members)
    assert list(folder.iterdir()) == [whole]
    os.mkfifo(folder / "0.checkpoint")
    with pytest.raises(OSError, match=r"is a pipe, not a file: .*0\.checkpoint"):
        find_checkpoints(job, DATA)


def test_a_checkpoint_that_cannot_be_read_for_now_is_an_error_and_stays(saved):
    job, _, _ = saved
    (file,) = (work_folder(job) / "checkpoints").iterdir()
    elsewhere = file.rename(file.with_name("elsewhere"))
    file.symlink_to(file.name)  # a loop
    with pytest.raises(OSError, match=file.name):
        find_checkpoints(job, DATA)
    elsewhere.rename(file)
    assert len(find_checkpoints(job, DATA)) == len(job.members)


def test_a_checkpoint_of_other_settings_or_data_is_never_used(saved, capsys, monkeypatch):
    job, _, _ = saved
    start = load_state(job.members, find_checkpoints(job, DATA))
    assert len(find_checkpoints(job, DATA)) == len(job.members)
    (file,) = (work_folder(job) / "checkpoints").iterdir()
    content = file.read_bytes()
    of_other_files = replace(DATA, fingerprint="1 files, 9 bytes, contents 0123456789abcdef")
    for data in (small_data(samples=199), of_other_files):
        file.write_bytes(content)
        assert find_checkpoints(job, data) == {}
        assert "start over: it is of other settings or data\n" in capsys.readouterr().err
    # Of another recipe, in a folder that has the name of this one's; of another version of the numbers.
    file.write_bytes(content)
    other = replace(small_job(SPEC, recipe={"momentum": 0.5}), output=job.output)
    assert find_checkpoints(other, DATA) == {}
    work_folder(job).rename(work_folder(other))
    assert find_checkpoints(other, DATA) == {}
    assert "start over: it is of other settings or data\n" in capsys.readouterr().err
    monkeypatch.setattr(checkpoint, "NUMBERS_VERSION", 7)
    save_checkpoint(job, DATA, job.members, start)
    assert len(find_checkpoints(job, DATA)) == len(job.members)
    monkeypatch.undo()
    assert find_checkpoints(job, DATA) == {}


def test_members_are_found_whichever_part_saved_them_and_a_state_that_went_on_is_not_used(saved):
    job, _, _ = saved
    part = replace(job, members=job.members[3:5])
    places = find_checkpoints(part, DATA)
    assert len(places) == len(job.members)
    state = load_state(part.members, places)
    assert state is not None
    save_checkpoint(job, DATA, job.members, replace(load_state(job.members, places), epoch=4))
    assert load_state(part.members, places) is None
    (file,) = (work_folder(job) / "checkpoints").iterdir()
    file.unlink()
    assert load_state(part.members, places) is None


def test_how_often_is_saved_changes_no_name_and_members_that_are_there_keep_no_checkpoint(tmp_path):
    job = small_job({"seed": [0], "none": True}, recipe={"checkpoint_every": 1})
    assert job.name == small_job({"seed": [0], "none": True}).name
    job = replace(job, output=str(tmp_path))
    run_job(job)
    assert not take_inventory(job.folder).missing(job)
    assert len(list((work_folder(job) / "checkpoints").iterdir())) == 1
    remove_work(take_inventory(job.folder))
    assert not work_folder(job).parent.exists()


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="kills a process group")
def test_a_job_killed_in_training_ends_with_the_tables_of_one_that_was_not(tmp_path):
    arguments = ["recipe.epochs=60", "processes=2", "model.width=8", "recipe.checkpoint_every=5"]
    arguments = ["study=first_look", *arguments]
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    killed.mkdir()
    undisturbed.mkdir()

    def epochs_done() -> list[int]:
        """After how many epochs each member's last checkpoint was saved."""
        epochs = {}
        for path in sorted(killed.glob("outputs/first_look/.work/*/checkpoints/*.checkpoint")):
            header = json.loads(path.read_bytes().splitlines()[1])
            for member in map(tuple, header["members"]):
                epochs[member] = max(epochs.get(member, 0), header["epoch"])
        return sorted(epochs.values())

    with started(killed, *arguments) as process:
        wait_for(lambda: len(epochs_done()) == 10)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert 5 <= epochs_done()[0] < 60
    assert not list(killed.glob("outputs/first_look/jobs/*/members.csv"))
    # In another cut, which finds what it needs.
    with started(killed, *arguments, "job.shards=2") as again, started(undisturbed, *arguments[:-1]) as other:
        for process in (again, other):
            _, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
    for name in TABLES:
        one, two = (
            pd.read_csv(folder / "outputs/first_look" / name).drop(
                columns=["seconds", "seconds_measuring"], errors="ignore"
            )
            for folder in (killed, undisturbed)
        )
        pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert not (killed / "outputs/first_look/.work").exists()
