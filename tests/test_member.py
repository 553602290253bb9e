"""Networks that a study keeps: loaded, they are those that its tables tell of."""

import re

import pytest
import torch
from torch import nn

from analysis import schema
from experiments.checks import ConfigError
from experiments.measuring.interventions import intervene
from experiments.measuring.measure import measure_train_mode
from experiments.measuring.predicted import predicted_shift
from experiments.measuring.shown import samples_at_once
from experiments.measuring.transplant import COLUMNS, Twins, add_transplanted_errors, keep_twins
from experiments.members import __main__ as members_command
from experiments.members import member_of
from experiments.study.tables import read_table
from scripts import member as member_command
from scripts.member import load_member, load_stack
from tests.conftest import in_this_process
from tests.experiments.command_line import results
from tests.places import ROOT

KEPT = ["members.save=true", "members.uout.beta=[0.9]", "members.gaussian.std=[0.5]", "study=kept"]


@pytest.fixture
def small(tiny) -> list[str]:
    return [*tiny, "data=gaussian", "data.train_size=256", "data.test_size=64", "data.features=6"]


@pytest.fixture
def study(run, tmp_path, small):
    ended = run(*small, *KEPT)
    assert ended.status == 0
    assert "weights: 9 networks, 0.029 MB in out/kept/jobs/*/weights" in ended.out
    return tmp_path / "out" / "kept"


def test_every_network_is_the_one_of_its_row(study):
    layers = read_table(study / "layers.csv")
    for row in read_table(study / "members.csv"):
        which = {key: row[key] for key in ("placement", "noise", "strength", "seed")}
        network, train, test = load_member(study, **which)
        with torch.no_grad():
            wrong = torch.cat([(network(x).argmax(1) != labels).float() for x, labels in test])
        assert 100 * wrong.mean().item() == pytest.approx(float(row["test_error"]))
        mine = [layer for layer in layers if all(layer[key] == value for key, value in which.items())]
        assert {layer["layer_name"]: float(layer["shift_ratio"]) for layer in mine} == pytest.approx(
            shift_ratios(network, torch.cat([x for x, _ in train])), rel=1e-4
        )


def shift_ratios(network: nn.Module, inputs: torch.Tensor) -> dict[str, float]:
    """Variance of each BN layer's input in eval mode over the stored one, channel means."""
    ratios: dict[str, float] = {}

    def keep(name: str):
        def hook(norm: nn.Module, read: tuple[torch.Tensor]) -> None:
            ratios[name] = (read[0].var(0).mean() / norm.running_var.mean()).item()  # type: ignore[union-attr]

        return hook

    for name, norm in network.named_modules():
        if isinstance(norm, nn.BatchNorm1d):
            norm.register_forward_pre_hook(keep(name))
    with torch.no_grad():
        network(inputs)
    return ratios


def test_the_program_of_the_page_of_tables_runs(run, tmp_path, small, capsys):
    assert run(*small, "study=kept", "output=outputs", "members.save=true").status == 0
    page = (ROOT / "experiments" / "study" / "README.md").read_text(encoding="utf-8")
    program, *_ = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(program)  # in the folder of `run`
    assert capsys.readouterr().out.startswith("tensor(0.")


def test_closure_interventions_and_transplants_are_measured_anew_without_training(study):
    job, members, stack, noise, data = load_stack(study)
    inputs, labels = (
        samples_at_once(of_all, noise.shapes) for of_all in (data.train_inputs, data.train_labels)
    )
    found = predicted_shift(stack, members, inputs, labels)
    in_train = measure_train_mode(stack, members, noise, data, job.recipe, job.measure.draws)
    judged = {"train": (data.train_inputs, data.train_labels), "test": (data.test_inputs, data.test_labels)}
    seeds = [member.seed for member in members]
    repaired = intervene(stack, seeds, in_train.norm_moments, inputs, noise.shapes, judged)
    twins: Twins = {}
    keep_twins(twins, stack, members)
    rows = {
        name: [schema.typed_row(row) for row in read_table(study / name)]
        for name in ("members.csv", "layers.csv")
    }
    bare = {
        name: [{key: value for key, value in row.items() if "_twin" not in key} for row in table]
        for name, table in rows.items()
    }
    add_transplanted_errors(job, data, twins, bare, noise.shapes)
    for index, (member, row, again) in enumerate(
        zip(members, rows["members.csv"], bare["members.csv"], strict=True)
    ):
        assert member == member_of(row)
        for column, values in repaired.members.items():
            assert row[column] == pytest.approx(values[index].item(), nan_ok=True, rel=1e-5)
        for column in COLUMNS.values():
            assert again.get(column) == row.get(column)
        assert (COLUMNS["shift"] in again) == (member.noise != "none")
        for layer in rows["layers.csv"]:
            if member_of(layer) == member:
                columns = found[str(layer["layer_name"])]
                for column in ("shift_ratio_predicted", "mean_shift_predicted"):
                    assert layer[column] == pytest.approx(columns[column][index].item(), rel=1e-5, abs=1e-7)


def test_weights_of_members_that_are_left_stay_when_others_are_dropped(study, tmp_path, monkeypatch, capsys):
    drop = in_this_process(members_command.main, tmp_path, monkeypatch, capsys)
    before = load_member(study, placement="before_bn", noise="uout").network.state_dict()
    assert drop("out/kept", "drop", "noise=dropout").status == 0
    after = load_member(study, placement="before_bn", noise="uout").network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert len(list(study.glob("jobs/*/weights/*"))) == 5
    with pytest.raises(ConfigError, match="holds no such member"):
        load_member(study, noise="dropout")


@pytest.mark.parametrize(("noise", "variance"), [("dropout", 1.0), ("uout", 0.27), ("gaussian", 0.25)])
def test_in_train_mode_its_noise_acts_where_and_as_in_training(study, noise, variance):
    strength = {"dropout": 0.5, "uout": 0.9, "gaussian": 0.5}[noise]
    network = load_member(study, placement="before_bn", noise=noise, strength=strength).network.train()
    sites = dict(network.named_modules())
    torch.manual_seed(0)
    for name, module in sites.items():
        if name.endswith(("before_bn", "before_weight", "after_last_bn")):
            factor = module(torch.ones(200_000))
            expected = variance if name.endswith("before_bn") else 0
            assert factor.mean().item() == pytest.approx(1, abs=0.01)
            assert factor.var().item() == pytest.approx(expected, rel=0.02)


def test_one_command_audits_a_member(study, tmp_path, monkeypatch, capsys):
    audit = in_this_process(member_command.main, tmp_path, monkeypatch, capsys)
    ended = audit("out/kept", "placement=before_bn", "noise=dropout", "strength=0.5", "--out", "page")
    assert (ended.status, ended.err) == (0, "")
    assert "blocks.0.before_bn (Dropout 0.5)" in ended.out
    assert (tmp_path / "page" / "audit.html").is_file()


def test_members_without_their_weights_are_trained_again_to_the_same_numbers(run, tmp_path, small):
    more = [*small, "study=late"]
    assert run(*more).status == 0
    before = results(tmp_path / "out" / "late")
    with pytest.raises(ConfigError, match="holds no weights of such members"):
        load_member(tmp_path / "out" / "late", placement="none")
    ended = run(*more, "members.save=true", "members.dropout.rate=[0.5]")
    assert ended.status == 0
    assert "grow" not in ended.err  # of these none was there with weights
    assert results(tmp_path / "out" / "late") == before
    assert load_member(tmp_path / "out" / "late", strength=0.5, placement="before_bn").network is not None
    assert "grow: 3 of 5 members are there; training 2" in run(*more, "members.save=true").err
    assert "all 5 members are there" in run(*more, "members.save=true").err


def test_weights_that_are_not_as_they_were_written_are_one_line(study, run, small):
    file = next(study.glob("jobs/*/weights/before_bn-dropout-0.5-*"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="not as it was written"):
        load_member(study, placement="before_bn", noise="dropout", strength=0.5)
    file.unlink()
    ended = run(*small, *KEPT)
    assert ended.status == 0
    assert "its members are trained again" in ended.err
    assert load_member(study, placement="before_bn", noise="dropout", strength=0.5)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"placement": "before_bn"}, "several such members; say which noise: dropout, gaussian, uout"),
        ({"seed": 7}, "seed=7: .* holds no such member"),
        ({"depth": "deep"}, "depth=deep: allowed are numbers"),
    ],
)
def test_what_names_no_one_member_is_one_line(study, columns, reason):
    with pytest.raises(ConfigError, match=reason):
        load_member(study, **columns)
