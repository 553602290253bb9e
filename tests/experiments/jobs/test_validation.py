"""The validation part: held out of training, the same for everybody, and measured in a column of its own."""

import pandas as pd
import pytest
import torch

from experiments.data import check_data_config
from experiments.jobs.chunk import run_chunk
from tests.experiments.small import loaded, small_data, small_job

NONE_ONLY = {"seed": [0], "none": True, "dropout": None, "uout": None, "gaussian": None}


def rows_of(inputs: torch.Tensor) -> set[tuple]:
    return {tuple(row.tolist()) for row in inputs}


@pytest.mark.parametrize(("validation", "count"), [(0.25, 50), (50, 50), (1, 1), (0, 0), (0.001, 0)])
def test_so_many_samples_are_held_out(validation, count):
    data = small_data(samples=200)
    split = data.hold_out(validation)
    assert (len(split.train_labels), len(split.validation_labels)) == (200 - count, count)
    assert rows_of(split.train_inputs) | rows_of(split.validation_inputs) == rows_of(data.train_inputs)
    assert torch.equal(split.test_inputs, data.test_inputs)


def test_inputs_keep_their_labels():
    data = small_data(samples=200)
    label = {tuple(x.tolist()): int(y) for x, y in zip(data.train_inputs, data.train_labels, strict=True)}
    split = data.hold_out(0.4)
    for inputs, labels in (
        (split.train_inputs, split.train_labels),
        (split.validation_inputs, split.validation_labels),
    ):
        assert [label[tuple(x.tolist())] for x in inputs] == labels.tolist()


def test_every_load_holds_out_the_same_samples():
    first, second = (loaded({"name": "digits", "validation": 0.2}) for _ in range(2))
    assert torch.equal(first.validation_inputs, second.validation_inputs)
    assert len(first.validation_labels) == round(0.2 * 1437)
    assert len(set(first.validation_labels.tolist())) == 10  # not the first samples of a sorted set


def test_old_configurations_hold_out_nothing():
    assert check_data_config({"name": "digits"}).validation == 0


@pytest.mark.parametrize("value", ["-0.1", "1.5", "lots", "null", "true"])
def test_values_that_cannot_be(run, tiny, value):
    ended = run(*tiny, f"data.validation={value}")
    assert ended.status == 2
    assert ended.err.startswith("error: data.validation=")
    assert "a share in (0, 1), or a whole number of samples" in ended.err


def test_something_must_be_left_to_train_on(run, tiny):
    ended = run(*tiny, "data.validation=1437")
    assert (ended.status, ended.err) == (
        2,
        "error: data.validation=1437: allowed is less than all 1437 training samples\n",
    )


def test_the_column_is_the_error_on_the_held_out_samples():
    data = small_data(samples=260)
    split = data.hold_out(60)
    # The held-out samples once more as the test set: two columns must agree.
    twice = small_data(samples=260).hold_out(60)
    object.__setattr__(twice, "test_inputs", split.validation_inputs)
    object.__setattr__(twice, "test_labels", split.validation_labels)
    job = small_job(NONE_ONLY)
    (measured,) = run_chunk(job, job.members, split)["members.csv"]
    (again,) = run_chunk(job, job.members, twice)["members.csv"]
    assert measured["validation_error"] == again["test_error"] != measured["test_error"]
    (without,) = run_chunk(job, job.members, data)["members.csv"]
    assert "validation_error" not in without


def test_the_tables_say_how_many_samples_were_trained_on(run, tiny, tmp_path):
    assert run(*tiny, "data.validation=437").status == 0
    tables = {
        name: pd.read_csv(tmp_path / f"out/first_look/{name}.csv") for name in ("members", "layers", "epochs")
    }
    assert all(set(table["train_samples"]) == {1000} for table in tables.values())
    assert tables["members"]["validation_error"].between(0, 100).all()
