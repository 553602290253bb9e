"""A network of the user's own: its numbers, its sites, what each of its norms hears, and how it trains."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from analysis.claims.__main__ import main as judge
from experiments.jobs import chunk
from experiments.networks import NoiseSite
from experiments.networks.custom import find_layout, site_lines
from experiments.networks.hearing import find_norm_inputs, watched_pass
from experiments.networks.network import Network, NormInput, Source
from experiments.study.part import read_job
from experiments.targets import load_target
from tests.conftest import files_below
from tests.experiments.command_line import plan, results
from tests.experiments.networks.cut_open import own_channels
from tests.experiments.networks.small_networks import ALL, images, small_network
from tests.experiments.small import built
from tests.places import ROOT
from tests.programs import programs

PAGE = ROOT / "experiments" / "networks" / "README.md"
OWN = ["model=custom", "model.target=tests.experiments.own:build"]
EVERY_PLACEMENT = "members.dropout.placement=[before_bn,before_weight,after_last_bn]"


def as_sets(norm_inputs: list[NormInput]) -> list[tuple]:
    return [(norm.norm, norm.layer, set(norm.sources)) for norm in norm_inputs]


def custom(target: str, sample_shape: tuple[int, ...], norm: str = "batch", seed: int = 0) -> Network:
    section = {"name": "custom", "target": target, "source": None, "width": 8, "depth": 1, "norm": norm}
    return built(section, sample_shape, 10, seed)


@pytest.fixture
def example(tmp_path) -> str:
    """The network of the page, as a target, and all of the page's programs in the folder."""
    for name, text in programs(PAGE).items():
        (tmp_path / name).write_text(text)
    return f"{tmp_path / 'mynet.py'}:build"


# --- what each norm hears


@pytest.mark.parametrize("key", ALL)
def test_what_norms_hear_is_found_as_every_network_of_the_harness_declares_it(key):
    network = small_network(key, seed=0).float().train()
    found = find_norm_inputs(network, watched_pass(network, images(8).float()))
    assert as_sets(found) == as_sets(network.norm_inputs())


def conv(inputs: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, 3, 3, padding=1)


class Joined(nn.Module):
    """Sites in both branches of a sum, or of a concatenation."""

    def __init__(self, join):
        super().__init__()
        self.first, self.second = nn.Sequential(NoiseSite("before_weight"), conv()), NoiseSite("before_bn")
        self.norm, self.join = nn.LazyBatchNorm2d(), join

    def forward(self, x):
        return self.norm(self.join(self.first(x), self.second(x)))


# By what stands between a site and a norm: the sources of the norm.
BETWEEN = {
    "nothing": ([], {Source("0")}),
    "a convolution": ([conv()], {Source("0", "1")}),
    "a strided convolution with a bias and groups": (
        [nn.Conv2d(3, 6, 3, stride=2, groups=3, padding="valid")], {Source("0", "1")}
    ),
    "a module that does nothing": ([nn.Identity(), conv()], {Source("0", "2")}),
    "a ReLU": ([nn.ReLU(), conv()], set()),
    "a ReLU behind the convolution": ([conv(), nn.ReLU()], set()),
    "pooling behind the convolution": ([conv(), nn.AvgPool2d(2)], set()),
    "two convolutions": ([conv(), conv()], set()),
    "another norm": ([nn.BatchNorm2d(3), conv()], set()),
}  # fmt: skip


@pytest.mark.parametrize("case", BETWEEN)
def test_noise_is_a_layers_own_through_one_weight_layer_and_nothing_else(case):
    between, sources = BETWEEN[case]
    channels = 6 if "groups" in case else 3
    network = nn.Sequential(NoiseSite("before_weight"), *between, nn.BatchNorm2d(channels))
    found = find_norm_inputs(network, watched_pass(network, images(8).float()))
    assert set(found[-1].sources) == sources


def test_sums_and_concatenations_say_where_noise_arrives():
    x = images(8).float()
    network = Joined(torch.add)
    (found,) = find_norm_inputs(network, watched_pass(network, x))
    assert set(found.sources) == {
        Source("first.0", "first.1", joins_shortcut=True),
        Source("second", joins_shortcut=True),
    }
    network = Joined(lambda first, second: torch.cat([first, second], 1))
    (found,) = find_norm_inputs(network, watched_pass(network, x))
    assert set(found.sources) == {
        Source("first.0", "first.1", channels=(0, 3)),
        Source("second", channels=(3, 6)),
    }


def test_sites_are_put_in_where_the_page_says(example):
    network = custom(example, (1, 8, 8)).eval()
    assert site_lines(network, torch.randn(2, 1, 8, 8)) == [
        "1.before_bn: before_bn, before 1 (BatchNorm2d)",
        "3.conv1.before_weight: before_weight, before 3.conv1 (Conv2d)",
        "3.bn1.before_bn: before_bn, before 3.bn1 (BatchNorm2d)",
        "3.conv2.before_weight: before_weight, before 3.conv2 (Conv2d)",
        "3.bn2.before_bn: before_bn, before 3.bn2 (BatchNorm2d)",
        "4.conv1.before_weight: before_weight, before 4.conv1 (Conv2d)",
        "4.bn1.before_bn: before_bn, before 4.bn1 (BatchNorm2d)",
        "4.conv2.before_weight: before_weight, before 4.conv2 (Conv2d)",
        "4.bn2.before_bn: before_bn, before 4.bn2 (BatchNorm2d)",
        "4.downsample.0.before_weight: before_weight, before 4.downsample.0 (Conv2d)",
        "4.downsample.1.before_bn: before_bn, before 4.downsample.1 (BatchNorm2d)",
        "7.after_last_bn: after_last_bn, before 7 (Linear)",
    ]


def test_a_dry_run_lists_the_sites_and_writes_nothing(run, tmp_path, tiny, example):
    data = f"data.target={tmp_path / 'mydata.py'}:load"
    before = files_below(tmp_path)
    ended = run(
        *tiny,
        "model=custom",
        f"model.target={example}",
        "data=custom",
        data,
        "members.save=true",
        "--dry-run",
    )
    assert (ended.status, ended.err) == (0, "")
    assert "5 members, 0 there, 5 to train; about" in ended.out
    assert ".after_last_bn: after_last_bn, before " in ended.out
    assert files_below(tmp_path) == before


def test_what_norms_hear_of_the_example_is_what_changes_when_a_site_does(example):
    network, x = custom(example, (1, 8, 8)).double().eval(), torch.randn(2, 1, 8, 8).double()
    found = own_channels(network, x)
    for norm_input in network.norm_inputs():
        assert {source.site for source in norm_input.sources} == found[norm_input.norm].keys(), (
            norm_input.norm
        )
    heard = {
        norm.norm: [(source.site, source.layer) for source in norm.sources] for norm in network.norm_inputs()
    }
    assert heard["1"] == [("1.before_bn", None)]
    assert heard["4.downsample.1"] == [
        ("4.downsample.0.before_weight", "4.downsample.0"),
        ("4.downsample.1.before_bn", None),
    ]


def test_a_seed_is_a_start_that_the_network_makes_itself(example):
    first, again, other = (custom(example, (1, 8, 8), seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(first[name].equal(value) for name, value in again.items())
    assert not first["0.weight"].equal(other["0.weight"])
    bound = 9**-0.5  # of torch's own start, which is uniform; the harness's is normal
    assert 0.8 * bound < first["0.weight"].abs().max() <= bound


@pytest.fixture
def own_data(tiny) -> list[str]:
    return [
        *tiny,
        "data=gaussian",
        "data.features=6",
        "data.classes=4",
        "data.train_size=128",
        "data.test_size=64",
    ]


# --- numbers


def rows(study: Path, table: str) -> pd.DataFrame:
    return pd.read_csv(study / table).drop(
        columns=["model", "job", "seconds", "seconds_measuring"], errors="ignore"
    )


def test_the_harnesss_mlp_written_by_a_user_has_the_harnesss_numbers(run, tmp_path, tiny):
    arguments = [*tiny, "data=gaussian", "data.train_size=256", EVERY_PLACEMENT, "members.gaussian.std=[0.5]"]
    assert run(*arguments, "study=ours").status == 0
    assert run(*arguments, *OWN, "study=own").status == 0
    for table in ("members.csv", "layers.csv", "epochs.csv"):
        ours, own = (rows(tmp_path / "out" / study, table) for study in ("ours", "own"))
        unknown = [column for column in ours if column.endswith("_predicted")]
        assert own[unknown].isna().all(axis=None)
        pd.testing.assert_frame_equal(
            own.drop(columns=unknown), ours.drop(columns=unknown), rtol=1e-4, atol=1e-5
        )


def test_sites_that_are_put_in_act_as_those_that_a_user_wrote(run, tmp_path, own_data):
    for name in ("automatic", "explicit"):
        target = f"model.target=tests.experiments.own:{name}"
        assert run(*own_data, EVERY_PLACEMENT, "model=custom", target, f"study={name}").status == 0
    automatic, explicit = (rows(tmp_path / "out" / name, "layers.csv") for name in ("automatic", "explicit"))
    explicit["layer_name"] = [name.removesuffix(".part") for name in explicit["layer_name"].astype(str)]
    automatic["layer_name"] = automatic["layer_name"].astype(str)
    pd.testing.assert_frame_equal(automatic, explicit, check_exact=True)
    assert automatic.groupby("placement").local_ratio.count().to_dict() == {
        "after_last_bn": 0, "before_bn": 6, "before_weight": 4, "none": 0
    }  # fmt: skip


# --- studies


@pytest.fixture
def mine(example, tmp_path, tiny) -> list[str]:
    """The study of the page, made small."""
    data = tmp_path / "mydata.py"
    data.write_text(data.read_text().replace("1400:", "1400:1432").replace(":1400", ":64"))
    command = ["model=custom", "model.target=mynet.py:build", "data=custom", "data.target=mydata.py:load"]
    return [
        *tiny,
        *command,
        "model.width=4",
        "model.depth=1",
        "recipe.batch_size=32",
        "members.dropout.rate=[0.5]",
    ]


def test_a_study_that_grows_and_goes_on_has_the_tables_of_one_command(run, tmp_path, mine, monkeypatch):
    mine = [*mine, "recipe.epochs=2", "recipe.checkpoint_every=1"]
    seeds = "members.seed=[0,1]"
    assert run(*mine, seeds, "study=once").status == 0
    assert run(*mine, "study=grown").status == 0
    save = chunk.save_checkpoint

    def save_and_stop(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(chunk, "save_checkpoint", save_and_stop)
        assert run(*mine, seeds, "study=grown").status == 130
    assert list((tmp_path / "out" / "grown" / ".work").rglob("*.checkpoint"))
    ended = run(*mine, seeds, "study=grown")
    assert ended.status == 0
    assert "grow: 3 of 6 members are there; training 3" in ended.err
    assert results(tmp_path / "out" / "grown") == results(tmp_path / "out" / "once")


def test_a_file_that_was_changed_is_refused_and_none_is_needed_to_read_a_study(run, tmp_path, mine):
    assert run(*mine).status == 0
    study = tmp_path / "out" / "first_look"
    (part,) = (study / "jobs").iterdir()
    files = {"model.source": tmp_path / "mynet.py", "data.source": tmp_path / "mydata.py"}
    texts = {key: file.read_text() for key, file in files.items()}
    for key, file in files.items():
        file.write_text(texts[key] + "\nraise SystemExit\n")
        before = files_below(study)
        ended = run(*mine, "members.seed=[0,1]")
        assert ended.status == 2
        assert ended.err.startswith(f"error: study=first_look: out/first_look holds results of {key}=sha256-")
        assert ended.err.endswith("; choose another study=NAME\n")
        assert len(ended.err.splitlines()) == 1
        assert files_below(study) == before
        file.write_text(texts[key])
    for file in files.values():
        file.unlink()
    assert read_job(part).members
    assert judge([str(study)]) == 0
    for key, file in files.items():
        file.write_text(texts[key])
    assert "grow: all 3 members are there" in run(*mine).err


def test_a_file_that_is_changed_while_a_command_runs_fails_its_members(run, tmp_path, mine, monkeypatch):
    (tmp_path / "mynet.py").write_text((tmp_path / "mynet.py").read_text() + "\n# while it runs\n")

    def change(plan):
        load_target.cache_clear()
        find_layout.cache_clear()
        (tmp_path / "mynet.py").write_text("")

    monkeypatch.setattr("experiments.run.check_plan", change)
    ended = run(*mine)
    assert ended.status == 1
    assert "model.target=mynet.py:build: " in ended.err
    assert "mynet.py was changed meanwhile; type the command again" in ended.err


def test_a_launchers_job_is_held_to_the_text_that_the_command_saw():
    planned = plan("-m", *OWN, "model.width=4,8")
    for job in planned.jobs:
        assert f"model.source={job.model.options['source']}" in planned.overrides[job.name]


# --- networks that cannot be trained or measured

BN, END = "nn.BatchNorm1d(8)", "nn.Linear(8, 4)"
CHAIN = f"nn.Linear(6, 8), {BN}, nn.ReLU(), {END}"
# What lines of `build` do, what it returns, what the line says is wrong, and what is allowed.
BAD_NETWORKS = [
    ("", "None", "it returns a NoneType", "a function build(sample_shape, classes, width, depth, norm) that"),
    ("raise ValueError('no\\nway')", "", "it raises ValueError: no way (net.py, line 4)", "a function build"),
    ("import nothing_here", "", "it raises ModuleNotFoundError: No module named 'nothing_here'", "a function"),
    ("exit()", "", "it raises SystemExit: None", "a function build"),
    ("", f"Chain(nn.Linear(5, 8), {BN}, {END})", "for inputs of shape [8, 6] it raises RuntimeError", "[8, 4]"),
    ("", f"Chain(nn.Linear(6, 8), {BN}, nn.Linear(8, 3))", "torch.float32 of shape [8, 3]", "[8, 4]"),
    ("", f"Chain({CHAIN}, nn.Flatten(0))", "torch.float32 of shape [32]", "logits of shape [batch, classes]"),
    ("", f"Chain({CHAIN}, nn.LSTM(4, 4))", "it returns a tuple in eval mode", "a tensor"),
    ("", f"Chain({CHAIN}).double()", "it raises RuntimeError", "a network that gives logits"),
    ("", f"Chain(nn.Linear(6, 8), {END})", "with model.norm=batch it runs no BatchNorm", "BatchNorm1d to 3d"),
    ("x = nn.BatchNorm1d(8, track_running_stats=False)", f"Chain(nn.Linear(6, 8), x, {END})", "no BatchNorm", ""),
    ("", f"Chain(nn.Linear(6, 8), {END}, nn.BatchNorm1d(4))", "no linear layer follows its last", "NoiseSite"),
    ("x = nn.Unflatten(1, (6, 1)), nn.Conv1d(6, 4, 1)", "Chain(*x, nn.BatchNorm1d(4), nn.Flatten())", "no li", ""),
    ("", f"Chain({CHAIN}, nn.Dropout(0.5))", "random numbers of its own in train mode", "write NoiseSite"),
    (f"x = Chain({CHAIN}); x[0].bias.requires_grad = False", "x", "0.bias is frozen", "all of which is trained"),
    (f"x = Chain({CHAIN}); x.y = nn.Parameter(torch.ones(1))", "x", "y takes no part", "all of which is trained"),
    ("x, y = nn.Linear(6, 6), nn.Linear(6, 6); y.weight = x.weight", "Chain(x, y)", "1.weight is al", "one"),
    ("", "Twice(Chain(nn.Linear(6, 6), nn.BatchNorm1d(6)), nn.Linear(6, 4))", "0.0 runs 2 times", "once"),
    ("x = weight_norm(nn.Linear(6, 8))", f"Chain(x, {BN}, {END})", "the weight of 0 is made of others", "its own"),
    ("import random", f"Chain({CHAIN}, Scaled(random.random()))", "built twice from one seed, 4.by differs", ""),
    ("", f"Chain(nn.Linear(6, 8), NoiseSite('bn'), {BN}, {END})", "1 is NoiseSite('bn')", "one of before_bn"),
    ("", f"Idle({CHAIN}, NoiseSite('before_bn'))", "4 is a NoiseSite that never runs", "every pass comes through"),
    ("", f"Chain(nn.Linear(6, 8), Named({BN}), {END})", "1.0 is called without an input in front", "in front"),
]  # fmt: skip
HEAD = """
from torch import nn
def build(sample_shape, classes, width, depth, norm):
    {}
    return {}

import torch
from torch.nn.utils.parametrizations import weight_norm
from experiments.networks import NoiseSite
Chain = nn.Sequential

class Twice(nn.Sequential):
    def forward(self, x):
        return self[1](self[0](self[0](x)))

class Idle(nn.Sequential):
    def forward(self, x):
        return self[3](self[2](self[1](self[0](x))))

class Named(nn.Sequential):
    def forward(self, x):
        return self[0](input=x)

class Scaled(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.register_buffer("by", torch.tensor(by))
    def forward(self, x):
        return x * self.by
"""


@pytest.mark.parametrize(
    ("lines", "network", "fault", "allowed"), BAD_NETWORKS, ids=[bad[2] for bad in BAD_NETWORKS]
)
def test_a_network_that_cannot_be_trained_or_measured_is_one_line(
    run, tmp_path, own_data, lines, network, fault, allowed
):
    (tmp_path / "net.py").write_text(HEAD.format(lines, network))
    before = files_below(tmp_path)
    ended = run(*own_data, "model=custom", "model.target=net.py:build")
    assert ended.status == 2
    assert ended.err.startswith("error: model.target=net.py:build: ")
    assert len(ended.err.splitlines()) == 1
    assert fault in ended.err
    assert allowed in ended.err.partition("; allowed is ")[2]
    assert files_below(tmp_path) == before


def test_noise_that_has_no_site_is_refused(run, tmp_path, own_data):
    network = f"Chain(nn.Linear(6, 8), NoiseSite('before_bn'), {BN}, {END})"
    (tmp_path / "net.py").write_text(HEAD.format("", network))
    ended = run(*own_data, "model=custom", "model.target=net.py:build")
    assert (ended.status, ended.err) == (
        2,
        "error: members.dropout.placement=before_weight: allowed is before_bn, of which this network has sites; "
        "write others into it as NoiseSite\n",
    )


def test_a_custom_network_heeds_the_normaliser(run, tmp_path, own_data):
    (tmp_path / "net.py").write_text(HEAD.format("", f"Chain(nn.Linear(6, 8), nn.GroupNorm(2, 8), {END})"))
    arguments = [*own_data, "model=custom", "model.target=net.py:build"]
    assert "with model.norm=batch it runs no BatchNorm that stores statistics" in run(*arguments).err
    assert run(*arguments, "model.norm=group", "members.dropout.placement=[before_bn]").status == 0
    assert (
        "allowed is float32, because custom is computed as you wrote it"
        in run(*arguments, "recipe.precision=bfloat16").err
    )
