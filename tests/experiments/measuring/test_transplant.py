"""The transplant against its definition: layer by layer in plain PyTorch, and by measuring what it left behind."""

import copy

import pandas as pd
import pytest
import torch

from experiments.jobs.chunk import run_chunk
from experiments.jobs.job import job_site_shapes
from experiments.measuring.evaluate import evaluate
from experiments.measuring.transplant import add_transplanted_errors, batch_samples, noise_free, set_shift
from experiments.training.stack import stack_members
from tests import reference
from tests.experiments.networks.small_networks import ALL, images, member, small_network
from tests.experiments.small import small_data, small_job

MEMBERS = {
    "seed": [0, 1],
    "none": True,
    "dropout": {"rate": [0.5, 0.8], "placement": ["before_bn", "before_weight"]},
    "uout": None,
    "gaussian": None,
}


@pytest.mark.parametrize("key", ALL)
def test_every_layer_then_shows_the_ratio_in_any_network(key):
    stack = stack_members([member()], lambda seed: small_network(key, seed))
    names = [norm_input.norm for norm_input in stack.norm_inputs()]
    ratios = {name: 0.3 + 0.1 * index for index, name in enumerate(names)}
    inputs = images(40)
    set_shift(stack, ratios, inputs)
    measured = evaluate(stack, 1, inputs, torch.zeros(40, dtype=torch.long)).norm_moments
    for name, ratio in ratios.items():
        stored = stack.get_submodule(name).running_var
        assert isinstance(stored, torch.Tensor)
        # As layers.csv has it: a ratio of channel means.
        assert (measured[name].variance.mean() / stored.mean()).item() == pytest.approx(ratio, rel=1e-9)


@pytest.fixture(scope="module")
def transplanted():
    """A job's data, noise-free networks, and tables with the column."""
    job, data, twins = small_job(MEMBERS, recipe={"epochs": 4}), small_data(), {}
    rows = run_chunk(job, job.members, data, twins=twins)
    add_transplanted_errors(job, data, twins, rows, job_site_shapes(job, data))
    return job, data, twins, rows


def by_hand(data, state: dict, ratios: list[float]) -> float:
    """The same in plain PyTorch, a pass over the training set for each layer."""
    model = reference.MLP(20, 10, width=12, depth=3)
    model.load_state_dict({name: value[0] for name, value in state.items()})
    model.eval()
    for index, block in enumerate(model.blocks):
        model(data.train_inputs)
        norm = block.norm
        assert isinstance(norm, torch.nn.BatchNorm1d)
        norm.running_var = model.bn_inputs[index].detach().double().var(0).float() / ratios[index]
    return reference.error_and_loss(model, data.test_inputs, data.test_labels)[0]


def test_the_column_is_the_error_of_the_twin_with_the_shift(transplanted):
    job, data, twins, rows = transplanted
    found = []
    for trained, row in zip(job.members, rows["members.csv"], strict=True):
        key = (trained.placement, trained.strength, trained.seed)
        of_member = [r for r in rows["layers.csv"] if (r["placement"], r["strength"], r["seed"]) == key]
        if trained.noise == "none":
            assert "test_error_transplanted" not in row
            continue
        expected = by_hand(data, twins[noise_free(trained)], [r["shift_ratio"] for r in of_member])
        assert row["test_error_transplanted"] == pytest.approx(expected)
        found.append(expected)
    assert len(found) == 8
    assert len(set(found)) > 3  # the shift does something


def test_the_weights_of_the_twin_stay(transplanted):
    job, data, twins, rows = transplanted
    before = copy.deepcopy(twins)
    add_transplanted_errors(job, data, twins, rows, job_site_shapes(job, data))
    for twin, state in before.items():
        assert all(torch.equal(value, twins[twin][name]) for name, value in state.items())


def test_without_a_twin_there_is_no_column(transplanted):
    job, data, _, rows = transplanted
    bare = {
        name: [
            {key: value for key, value in row.items() if key != "test_error_transplanted"} for row in table
        ]
        for name, table in rows.items()
    }
    add_transplanted_errors(job, data, {}, bare, job_site_shapes(job, data))
    assert not any("test_error_transplanted" in row for row in bare["members.csv"])


def test_all_samples_count_where_they_fit():
    assert batch_samples({"a": (64,), "b": (256,)}) == 250_000
    assert batch_samples({"a": (160, 32, 32)}) == 390  # a wide residual network's, of 1,024 positions each


@pytest.mark.parametrize("processes", [1, 2])
def test_twins_are_found_across_chunks_and_processes(run, tmp_path, processes):
    options = ["recipe.epochs=1", "model.width=8", "members.seed=[0,1]", "chunk=3", f"processes={processes}"]
    assert run(*options, f"output=out{processes}").status == 0
    members = pd.read_csv(tmp_path / f"out{processes}/first_look/members.csv")
    noisy = members["noise"] != "none"
    assert members.loc[noisy, "test_error_transplanted"].between(0, 100).all()
    assert members.loc[~noisy, "test_error_transplanted"].isna().all()


def test_nothing_is_transplanted_where_no_statistics_are_stored(run, tiny, tmp_path):
    assert run(*tiny, "model.norm=group").status == 0
    members = pd.read_csv(tmp_path / "out/first_look/members.csv")
    assert members["test_error_transplanted"].isna().all()


def test_shards_without_the_twin_train_it_and_do_not_report_it(run, tmp_path):
    options = ["recipe.epochs=1", "model.width=8", "members.seed=[0]", "processes=1"]
    assert run(*options, "output=whole").status == 0
    assert run(*options, "output=cut", "job.shards=3").status == 0
    whole, cut = (pd.read_csv(tmp_path / f"{name}/first_look/members.csv") for name in ("whole", "cut"))
    assert len(whole) == len(cut) == 5
    expected = whole["test_error_transplanted"].to_numpy()
    assert cut["test_error_transplanted"].to_numpy() == pytest.approx(expected, abs=0.3, nan_ok=True)
    assert whole["test_error_transplanted"].notna().sum() == 4
