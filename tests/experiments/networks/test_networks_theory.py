"""The local law in each network: against switching the noise off, and against the exact law and the paper's."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from experiments.data import Data
from experiments.data.images import Images, image_data
from experiments.jobs.chunk import run_chunk
from experiments.measuring.adjust import adjust_stack
from experiments.measuring.evaluate import evaluate
from experiments.measuring.layer_columns import layer_columns, moving_variances
from experiments.measuring.measure import measure_train_mode
from experiments.members import Member
from experiments.networks import NORMS, check_model_config
from experiments.networks.network import Network
from experiments.training.noise import uniform_draws
from experiments.training.stack import ChunkNoise, site_shapes, stack_members
from experiments.training.train import epoch_batches
from tests import reference
from tests.experiments.networks.cut_open import norms_read, own_channels
from tests.experiments.networks.small_networks import (
    ALL,
    CPU,
    SITES,
    images,
    member,
    recorded_inputs,
    small_network,
)
from tests.experiments.small import RECIPE, built, double_network, small_data, small_job
from tests.photographs import pieces

# --- local_ratio by brute force


def small_images(train: int = 64, size: int = 8, dtype: torch.dtype = torch.double) -> Data:
    x = images(train + 40, size).to(dtype)
    labels = x.mean((1, 2, 3)).argsort().argsort() % 10
    return Data("images", x[:train], labels[:train], x[train:], labels[train:], 10)


def measured_columns(
    build: Callable[[int], Network], members: list[Member], data: Data, batch: int, draws: int
) -> list[dict]:
    """The columns of layers.csv of members with the weights that they begin with; test_var of a few samples."""
    stack = stack_members(members, build)
    noise = ChunkNoise(stack, site_shapes(build(members[0].seed), data.train_inputs[:2]), members, CPU)
    in_train_mode = measure_train_mode(stack, members, noise, data, replace(RECIPE, batch_size=batch), draws)
    train = evaluate(stack, len(members), data.train_inputs[:50], data.train_labels[:50])
    return layer_columns(stack, noise, in_train_mode, train, moving_variances(stack))


Read = dict[str, list[Tensor]]  # by norm: what it read in each batch, [samples and positions, channels]


def rows(read: Tensor) -> Tensor:
    return read.transpose(0, 1).flatten(1).mT


def draw_factors(network: Network, noisy: Member, step: str, x: Tensor) -> dict[str, Tensor]:
    """The factors of a member's sites, made by the oracle from the harness's uniform draws."""
    with recorded_inputs(network) as inputs, torch.no_grad():
        network(x)
    factors = {}
    for name, site in network.sites().items():
        if site.placement == noisy.placement:
            key = (noisy.seed, "noise", step, name)
            (u,) = uniform_draws([key], len(x), tuple(inputs[name].shape[1:]), CPU)
            factors[name] = reference.noise_factor(noisy.noise, noisy.strength, u).double()
    return factors


def switch(network: Network, factors: dict[str, Tensor], without: str | None = None) -> None:
    for name, site in network.sites().items():
        site.factor = factors.get(name) if name != without else None


def brute_force(network: Network, noisy: Member, data: Data, batch: int, draws: int) -> tuple[Read, Read]:
    """What each norm reads in train mode, and with its own noise off; only layers that have some in the second.

    The second takes the same pass again for every site, with its noise alone switched off, and picks from it
    what the norms hear directly.
    """
    own = own_channels(network, data.train_inputs[:3])
    network.train()
    with_all, without_own = defaultdict(list), defaultdict(list)
    for draw in range(draws):
        order = epoch_batches(noisy.seed, RECIPE.epochs + draw, len(data.train_inputs), batch, CPU)
        for index, samples in enumerate(order):
            x = data.train_inputs[samples]
            factors = draw_factors(network, noisy, f"measure {draw} {index}", x)
            switch(network, factors)
            read = norms_read(network, x)
            clean = {name: read[name].clone() for name, sites in own.items() if factors.keys() & sites.keys()}
            for site in factors:
                switch(network, factors, without=site)
                without_one = norms_read(network, x)
                for name in clean:
                    heard = own[name].get(site, [])
                    clean[name][:, heard] = without_one[name][:, heard]
            switch(network, {})
            for name in read:
                with_all[name].append(rows(read[name]))
            for name in clean:
                without_own[name].append(rows(clean[name]))
    return with_all, without_own


@pytest.mark.parametrize(
    ("placement", "noise", "strength"), [("before_bn", "uout", 0.9), ("before_weight", "dropout", 0.4)]
)
@pytest.mark.parametrize("key", ALL)
def test_local_ratio_is_that_of_switching_the_noise_off(key, placement, noise, strength):
    data, batch, draws = small_images(), 32, 2
    members = [member(seed=3), member(placement, noise, strength, seed=4)]
    networks = {m.seed: small_network(key, m.seed) for m in members}
    layers = measured_columns(networks.__getitem__, members, data, batch, draws)
    with_all, without_own = brute_force(networks[4], members[1], data, batch, draws)
    assert len(without_own) >= 2
    for columns in layers:
        name = columns["layer_name"]
        train_var = reference.channel_mean_variance(with_all[name])
        assert columns["train_var"][1].item() == pytest.approx(train_var, rel=1e-6)
        if name in without_own:
            local_ratio = reference.channel_mean_variance(without_own[name]) / train_var
            assert local_ratio < 0.99
            assert columns["local_ratio"][1].item() == pytest.approx(local_ratio, rel=1e-6)
            assert columns["local_ratio"][0].isnan(), "a member without noise: empty"
        else:
            assert "local_ratio" not in columns, "no noise of its own: empty"


# --- the exact law on real images


@pytest.fixture(scope="module")
def photographs() -> Data:
    pixels, labels = pieces(700), torch.arange(700, dtype=torch.uint8) % 10
    return image_data(
        "photographs", Images(pixels[:600], labels[:600]), Images(pixels[600:], labels[600:]), 10
    ).to("cpu")


@pytest.mark.parametrize(
    ("placement", "noise", "strength"), [("before_bn", "gaussian", 0.8), ("before_weight", "dropout", 0.5)]
)
@pytest.mark.parametrize("key", ALL)
def test_exact_law_holds_in_every_network(key, placement, noise, strength, photographs):
    """On random weights and real images, for every layer with noise of its own, within 1 %."""
    config = ALL[key] | {"norm": "batch"}

    def build(seed: int) -> Network:
        return built(config, (3, 32, 32), 10, seed)

    # A feature is one sample an image, a channel one at every position, of which imagenet_net leaves a single one.
    draws = {"mlp": 100, "imagenet_net": 16}.get(key, 4)
    layers = measured_columns(
        build, [member(placement, noise, strength)], photographs, batch=100, draws=draws
    )
    with_own = [columns for columns in layers if "local_ratio" in columns]
    declared = [n for n in build(0).norm_inputs() if any(s.site.endswith(placement) for s in n.sources)]
    assert [columns["layer_name"] for columns in with_own] == [norm_input.norm for norm_input in declared]
    for columns in with_own:
        ratio, exact = columns["local_ratio"].item(), columns["local_ratio_exact"].item()
        assert ratio == pytest.approx(exact, rel=0.01), columns["layer_name"]
        assert exact < 0.97, "a shift worth predicting"


def test_the_distance_from_the_exact_law_is_monte_carlo_error_and_falls_with_the_draws():
    """Like one over the root of the draws: an eighth with 64 times as many. A law that is off would stay off."""
    noisy = [
        member(place, "dropout", 0.5, seed) for place in ("before_bn", "before_weight") for seed in range(4)
    ]
    data = small_data(dtype=torch.double)

    def distance(draws: int) -> float:
        layers = measured_columns(double_network, noisy, data, batch=100, draws=draws)
        off = [row["local_ratio"] / row["local_ratio_exact"] - 1 for row in layers if "local_ratio" in row]
        return torch.cat(off).abs().nanmedian().item()

    assert distance(128) < distance(2) / 4


@pytest.mark.parametrize(
    ("key", "placement", "filled"),
    [
        *[(key, "before_bn", ["input_mean", "input_var", "ratio_paper"]) for key in ALL],
        ("mlp", "before_weight", ["input_mean", "input_var", "input_corr", "ratio_paper"]),
        ("convnet", "before_weight", ["input_mean", "input_var", "input_corr", "ratio_paper"]),
        ("resnext", "before_weight", ["input_mean", "input_var", "input_corr", "ratio_paper"]),
        # Eq 12 says nothing of a sum with a shortcut, nor of a part of the channels.
        ("preresnet-basic", "before_weight", ["input_mean", "input_var", "input_corr"]),
        ("preresnet-bottleneck", "before_weight", ["input_mean", "input_var", "input_corr"]),
        ("wide_resnet", "before_weight", ["input_mean", "input_var", "input_corr"]),
        ("densenet", "before_weight", []),
    ],
)
def test_the_papers_ratio_stands_where_it_speaks(key, placement, filled):
    members = [member(placement, "dropout", 0.5)]
    layers = measured_columns(lambda seed: small_network(key, seed), members, small_images(), 32, 1)
    for columns in layers:
        present = [name for name in columns if "input" in name or name == "ratio_paper"]
        assert bool(present) == ("local_ratio" in columns)
        assert {name for name in present if columns[name].isfinite()} == (set(filled) if present else set())


def test_the_moments_of_eq_12_are_those_of_the_patches_that_the_convolution_reads():
    """c, v, rho and the ratio of a convnet's second layer, by the definition: from its patches one by one."""
    noisy, data, batch = member("before_weight", "dropout", 0.5), small_images(), 32
    network = small_network("convnet", noisy.seed)
    layers = measured_columns(lambda seed: small_network("convnet", seed), [noisy], data, batch, 1)
    (columns,) = [columns for columns in layers if columns["layer_name"] == "blocks.1.norm"]
    network.train()
    patches = []
    for index, samples in enumerate(epoch_batches(noisy.seed, RECIPE.epochs, 64, batch, CPU)):
        x = data.train_inputs[samples]
        switch(network, draw_factors(network, noisy, f"measure 0 {index}", x))
        with recorded_inputs(network) as inputs, torch.no_grad():
            network(x)
        read = torch.nn.functional.unfold(inputs["blocks.1.before_weight"], 3, padding=1)
        patches.append(read.movedim(1, -1).flatten(0, 1))  # [samples and positions, entries]
    entries = torch.cat(patches)
    d = entries.shape[1]
    covariance = entries.T.cov()
    c, v = entries.mean(0).mean().item(), covariance.diagonal().mean().item()
    rho = (covariance.sum() - covariance.trace()).item() / (d * (d - 1)) / v
    assert columns["input_mean"].item() == pytest.approx(c, rel=1e-6)
    assert columns["input_var"].item() == pytest.approx(v, rel=1e-6)
    assert columns["input_corr"].item() == pytest.approx(rho, rel=1e-6)
    weight = network.get_submodule("blocks.1.conv").weight.detach().flatten(1)  # type: ignore[union-attr]
    d_cos2 = (weight.sum(1).square() / weight.square().sum(1)).mean().item()
    shared = v + v * rho * (d_cos2 - 1)
    assert columns["ratio_paper"].item() == pytest.approx(shared / (shared + c * c + v), rel=1e-6)


# --- normalisers without stored statistics


@pytest.mark.parametrize("norm", NORMS)
def test_tables_of_a_network_without_stored_statistics(norm):
    """Run a chunk to its rows: no stored variance, no shift against it, and nothing for adjustment to change."""
    job = small_job({"seed": [0], "none": True, "dropout": {"rate": [0.5], "placement": list(SITES)}})
    model = {"name": "densenet", "width": 2, "depth": 2, "norm": norm}
    job = replace(job, model=check_model_config(model))
    tables = run_chunk(job, job.members, small_images(dtype=torch.float))
    member_rows, layer_rows = tables["members.csv"], tables["layers.csv"]
    assert [row["status"] for row in member_rows] == ["ok"] * 3
    stored = {"moving_var", "shift_ratio", "shift_magnitude"}
    stored |= {"moving_var_adjusted", "test_var_adjusted", "shift_ratio_adjusted"}
    assert len(layer_rows) == 3 * 15
    for row in layer_rows:
        assert row["train_var"] > 0  # type: ignore[operator]
        assert row["test_var"] > 0  # type: ignore[operator]
        assert stored & row.keys() == (stored if norm == "batch" else set())
    quiet = [row["local_ratio"] for row in layer_rows if row["noise"] == "none" and "local_ratio" in row]
    assert all(value != value for value in quiet)
    for row in member_rows:
        assert (row["test_loss_adjusted"] == row["test_loss"]) == (norm != "batch")


@pytest.mark.parametrize("norm", ["group", "layer", "none"])
def test_adjustment_leaves_other_normalisers_alone(norm):
    stack = stack_members([member()], lambda seed: small_network("preresnet-basic", seed, norm))
    before = {name: value.clone() for name, value in stack.state_dict().items()}
    adjust_stack(stack, 1, images(20))
    assert not stack.training
    assert all(value.equal(before[name]) for name, value in stack.state_dict().items())
