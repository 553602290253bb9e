"""The transplant against its definition in plain PyTorch, and which members have one."""

import copy

import pandas as pd
import pytest
import torch

from experiments.jobs.chunk import run_chunk
from experiments.jobs.job import job_site_shapes
from experiments.measuring.transplant import COLUMNS, add_transplanted_errors, noise_free
from tests import reference
from tests.experiments.command_line import results
from tests.experiments.small import small_data, small_job

MEMBERS = {
    "seed": [0, 1],
    "none": True,
    "dropout": {"rate": [0.5, 0.8], "placement": ["before_bn", "before_weight"]},
    "uout": None,
    "gaussian": None,
}


@pytest.fixture(scope="module")
def transplanted():
    """A job's data, noise-free networks, and tables with the columns."""
    job, data, twins = small_job(MEMBERS, recipe={"epochs": 4}), small_data(), {}
    rows = run_chunk(job, job.members, data, twins=twins)
    add_transplanted_errors(job, data, twins, rows, job_site_shapes(job, data))
    return job, data, twins, rows


def by_hand(data, state: dict, ratios: list[float]) -> float:
    """`variances` in plain PyTorch, a pass over the training set for each layer."""
    model = reference.MLP(20, 10, width=12, depth=3)
    model.load_state_dict({name: value[0] for name, value in state.items()})
    model.eval()
    for index, block in enumerate(model.blocks):
        model(data.train_inputs)
        norm, seen = block.norm, model.bn_inputs[index].detach().double()
        assert isinstance(norm, torch.nn.BatchNorm1d)
        norm.running_var = ((seen.var(0) + norm.eps) / ratios[index] - norm.eps).float()
        norm.running_mean = seen.mean(0).float()
    return reference.error_and_loss(model, data.test_inputs, data.test_labels)[0]


def test_the_column_is_the_error_of_the_twin_with_the_ratios(transplanted):
    job, data, twins, rows = transplanted
    found = []
    for trained, row in zip(job.members, rows["members.csv"], strict=True):
        key = (trained.placement, trained.strength, trained.seed)
        of_member = [r for r in rows["layers.csv"] if (r["placement"], r["strength"], r["seed"]) == key]
        if trained.noise == "none":
            assert not set(row) & set(COLUMNS.values())
            continue
        expected = by_hand(data, twins[noise_free(trained)], [r["shift_ratio_frozen"] for r in of_member])
        assert row["test_error_twin_variances"] == pytest.approx(expected)
        assert all(0 <= row[column] <= 100 for column in COLUMNS.values())
        assert all(r["mean_shift_induced_twin"] >= 0 for r in of_member)
        found.append(expected)
    assert len(found) == 8
    assert len(set(found)) > 3  # the shift does something


def test_no_shift_leaves_the_twin_at_its_error_with_both_right(transplanted):
    job, data, twins, rows = transplanted
    rows = copy.deepcopy(rows)
    for row in rows["layers.csv"]:
        row |= {"shift_ratio_frozen": 1.0, "mean_shift_frozen": 0.0}
    for row in rows["members.csv"]:
        for column in COLUMNS.values():
            row.pop(column, None)
    add_transplanted_errors(job, data, twins, rows, job_site_shapes(job, data))
    clean = {
        row["seed"]: row["test_error_both_right"] for row in rows["members.csv"] if row["noise"] == "none"
    }
    for row in rows["members.csv"]:
        if row["noise"] != "none":
            assert [row[column] for column in COLUMNS.values()] == pytest.approx(4 * [clean[row["seed"]]])


def test_the_weights_of_the_twin_stay(transplanted):
    job, data, twins, rows = transplanted
    before = copy.deepcopy(twins)
    add_transplanted_errors(job, data, twins, copy.deepcopy(rows), job_site_shapes(job, data))
    for twin, state in before.items():
        assert all(torch.equal(value, twins[twin][name]) for name, value in state.items())


def test_without_a_twin_there_is_no_column(transplanted):
    job, data, _, rows = transplanted
    bare = {
        name: [{key: value for key, value in row.items() if "_twin_" not in key} for row in table]
        for name, table in rows.items()
    }
    add_transplanted_errors(job, data, {}, bare, job_site_shapes(job, data))
    assert not any("_twin_" in key for row in bare["members.csv"] for key in row)


@pytest.mark.parametrize("processes", [1, 2])
def test_twins_are_found_across_chunks_and_processes(run, tmp_path, processes):
    options = [
        "study=first_look",
        "recipe.epochs=1",
        "model.width=8",
        "members.seed=[0,1]",
        "chunk=3",
        f"processes={processes}",
    ]
    assert run(*options, f"output=out{processes}").status == 0
    members = pd.read_csv(tmp_path / f"out{processes}/first_look/members.csv")
    noisy = members["noise"] != "none"
    for column in COLUMNS.values():
        assert members.loc[noisy, column].between(0, 100).all()
        assert members.loc[~noisy, column].isna().all()


@pytest.mark.parametrize("option", ["model.norm=group", "measure.interventions=false"])
def test_nothing_is_intervened_where_no_statistics_are_stored_or_nobody_asks(run, tiny, tmp_path, option):
    assert run(*tiny, option).status == 0
    members = pd.read_csv(tmp_path / "out/first_look/members.csv")
    assert members[[*COLUMNS.values(), "test_error_frozen", "test_error_coarse_shift"]].isna().all(axis=None)
    assert members["test_error_adjusted"].notna().all()


def test_shards_without_the_twin_train_it_and_do_not_report_it(run, tmp_path):
    options = ["study=first_look", "recipe.epochs=1", "model.width=8", "members.seed=[0]", "processes=1"]
    assert run(*options, "output=whole").status == 0
    assert run(*options, "output=cut", "job.shards=3").status == 0
    whole, cut = (pd.read_csv(tmp_path / f"{name}/first_look/members.csv") for name in ("whole", "cut"))
    assert len(whole) == len(cut) == 5
    for column in COLUMNS.values():
        assert cut[column].to_numpy() == pytest.approx(whole[column].to_numpy(), abs=0.6, nan_ok=True)
        assert whole[column].notna().sum() == 4


def test_noisy_members_without_their_baseline_have_the_same_numbers(run, tmp_path):
    options = ["study=first_look", "recipe.epochs=1", "model.width=8", "members.seed=[0]", "processes=1"]
    assert run(*options, "output=whole").status == 0
    assert run(*options, "output=noisy", "members.none=false").status == 0
    whole, noisy = (results(tmp_path / name / "first_look")["members.csv"] for name in ("whole", "noisy"))
    assert noisy == [row for row in whole if row["noise"] != "none"]
    assert all(row["test_error_twin_shift"] for row in noisy)
